/* The heap: its content, and that it grows and shrinks where it was. */
#include "victim.h"

int main(void)
{
        enum { FIRST = 300 * 1024, MORE = 2 << 20 };
        char *start = sbrk(FIRST);

        CHECK(start != (void *)-1);
        fill(start, FIRST, 1);
        char *end = sbrk(0);
        ready_and_wait();
        CHECK(sbrk(0) == end);
        CHECK(filled(start, FIRST, 1));
        CHECK(sbrk(MORE) == end);
        CHECK(all_zero(end, MORE));
        fill(end, MORE, 2);
        CHECK(sbrk(-MORE) == end + MORE && sbrk(0) == end);
        CHECK(filled(start, FIRST, 1));
        for (int i = 1; i < 200; i++) { /* and the allocator that lives in it works on */
                char *block = malloc(i * 1000);
                memset(block, i, i * 1000);
                free(block);
        }
        pass();
}
