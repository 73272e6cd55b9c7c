// args: private
// args: locked
// args: shared
// args: read-only
// cycles: 2
/* Guard pages inside a mapping (MADV_GUARD_INSTALL): fatal to touch, their neighbours whole, in a
 * child as well; what is taken away again reads as zeros. */
#include "victim.h"
#include <setjmp.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE  103
#endif

static sigjmp_buf back;
static char *memory;
static int shared;

static void handler(UNUSED int signo)
{
        siglongjmp(back, 1);
}

static void check(void)
{
        CHECK(filled(memory, 3 * PAGE, 1));
        CHECK(*(uint64_t *)(memory + 5 * PAGE) == pattern(1, 5 * PAGE / 8));
        CHECK(*(uint64_t *)(memory + 7 * PAGE) == pattern(1, 7 * PAGE / 8));
        for (volatile int page = 3; page < 7; page++)
                if (page != 5 && !sigsetjmp(back, 1)) {
                        char byte = *(volatile char *)(memory + page * PAGE);
                        (void)byte;
                        CHECK(!"a guard page was readable");
                }
        CALL(madvise(memory + 3 * PAGE, 2 * PAGE, MADV_GUARD_REMOVE));
        CHECK(shared ? *(uint64_t *)(memory + 4 * PAGE) == pattern(1, 4 * PAGE / 8)
                     : all_zero(memory + 3 * PAGE, 2 * PAGE));
}

static void wait_and_check(void)
{
        ready_and_wait();
        check();
}

int main(UNUSED int argc, char **argv)
{
        shared = argv[1][0] == 's';
        /* Between mappings that it can't merge with. */
        memory = mmap(NULL, 10 * PAGE, PROT_NONE,
                      MAP_ANONYMOUS | (shared ? MAP_SHARED : MAP_PRIVATE), -1, 0);
        CHECK(memory != MAP_FAILED);
        memory += PAGE;
        CALL(mprotect(memory, 8 * PAGE, PROT_READ | PROT_WRITE));
        fill(memory, 8 * PAGE, 1);
        CALL(madvise(memory + 3 * PAGE, 2 * PAGE, MADV_GUARD_INSTALL));
        CALL(madvise(memory + 6 * PAGE, PAGE, MADV_GUARD_INSTALL));
        if (argv[1][0] == 'l')
                mlock(memory,
                      8 * PAGE); /* the guards fail it, the mapping is locked all the same */
        if (argv[1][0] == 'r')
                CALL(mprotect(memory, 8 * PAGE, PROT_READ));
        CHECK(signal(SIGSEGV, handler) != SIG_ERR);
        pid_t pid = child(wait_and_check);
        wait_for("go");
        check();
        join_child(pid);
        pass();
}
