// refused: guard
/* Guard pages inside a mapping (MADV_GUARD_INSTALL): still fatal to touch, their neighbours whole.
 */
#include "victim.h"
#include <setjmp.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

static sigjmp_buf back;

static void handler(UNUSED int signo)
{
        siglongjmp(back, 1);
}

int main(void)
{
        char *memory = anonymous(8 * PAGE);

        fill(memory, 8 * PAGE, 1);
        CALL(madvise(memory + 3 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL));
        CHECK(signal(SIGSEGV, handler) != SIG_ERR);
        ready_and_wait();
        CHECK(filled(memory, 3 * PAGE, 1));
        CHECK(*(uint64_t *)(memory + 5 * PAGE) == pattern(1, 5 * PAGE / 8));
        for (volatile int page = 3; page < 5; page++)
                if (!sigsetjmp(back, 1)) {
                        *(volatile char *)(memory + page * PAGE) = 1;
                        CHECK(!"a guard page was writable");
                }
        pass();
}
