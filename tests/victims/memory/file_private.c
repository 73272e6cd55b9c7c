/* A private mapping of a file: pages that were written differ, the others still follow the file. */
#include "victim.h"

enum { PAGES = 16 };

int main(void)
{
        int fd = made_file("data", PAGES * PAGE, 1);
        char *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

        CHECK(memory != MAP_FAILED);
        fill(memory + 2 * PAGE, PAGE, 20);
        fill(memory + 9 * PAGE, 2 * PAGE, 90);
        ready_and_wait();
        for (int page = 0; page < PAGES; page++) {
                const uint64_t *words = (uint64_t *)(memory + page * PAGE);
                if (page == 2)
                        CHECK(filled(words, PAGE, 20));
                else if (page == 9)
                        CHECK(filled(words, 2 * PAGE, 90));
                else if (page != 10)
                        CHECK(words[5] == pattern(1, page * PAGE / 8 + 5));
        }
        CHECK(pwrite(fd, "changed", 8, 12 * PAGE) == 8); /* never written here: follows the file */
        CHECK(!strcmp(memory + 12 * PAGE, "changed"));
        CHECK(pwrite(fd, "changed", 8, 2 * PAGE) == 8);
        CHECK(filled(memory + 2 * PAGE, PAGE, 20));
        pass();
}
