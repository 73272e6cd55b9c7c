/* 5,000 mappings that can't be merged, each with a page of its own content. */
#include "victim.h"

enum { NR = 5000 };

int main(void)
{
        char *memory = anonymous(2 * NR * PAGE);

        for (int i = 0; i < NR; i++) {
                fill(memory + 2 * i * PAGE, PAGE, i);
                if (i % 2)
                        CALL(mprotect(memory + 2 * i * PAGE, PAGE, PROT_READ));
                else
                        CALL(munmap(memory + (2 * i + 1) * PAGE, PAGE));
        }
        ready_and_wait();
        for (int i = 0; i < NR; i++)
                CHECK(filled(memory + 2 * i * PAGE, PAGE, i));
        pass();
}
