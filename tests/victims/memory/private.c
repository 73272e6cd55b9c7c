/* Private anonymous memory of several protections, big enough for more than one batch. */
#include "victim.h"

enum { BIG = 32 << 20, SMALL = 64 << 10 };

int main(void)
{
        char *big = anonymous(BIG), *read_only = anonymous(SMALL), *code = anonymous(PAGE);

        fill(big, BIG, 1);
        fill(read_only, SMALL, 2);
        CALL(mprotect(read_only, SMALL, PROT_READ));
        memcpy(code, "\xb8\x2a\x00\x00\x00\xc3", 6); /* mov $42, %eax; ret */
        CALL(mprotect(code, PAGE, PROT_READ | PROT_EXEC));
        ready_and_wait();
        CHECK(filled(big, BIG, 1));
        CHECK(filled(read_only, SMALL, 2));
        CHECK(((int (*)(void))code)() == 42);
        fill(big, BIG, 3);
        CHECK(filled(big, BIG, 3));
        pass();
}
