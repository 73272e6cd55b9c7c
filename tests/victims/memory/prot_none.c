/* Data under PROT_NONE, which is there again when it may be read. */
#include "victim.h"

enum { SIZE = 64 * PAGE };

int main(void)
{
        char *memory = anonymous(SIZE), *untouched = anonymous(SIZE);

        fill(memory, SIZE / 2, 1);
        CALL(mprotect(memory, SIZE, PROT_NONE));
        CALL(mprotect(untouched, SIZE, PROT_NONE));
        ready_and_wait();
        CALL(mprotect(memory, SIZE, PROT_READ | PROT_WRITE));
        CALL(mprotect(untouched, SIZE, PROT_READ | PROT_WRITE));
        CHECK(filled(memory, SIZE / 2, 1));
        CHECK(all_zero(memory + SIZE / 2, SIZE / 2) && all_zero(untouched, SIZE));
        pass();
}
