// args: blind
// args: held
// refused: PR_SET_SYSCALL_USER_DISPATCH
// unseen: PR_SET_SYSCALL_USER_DISPATCH
// dump: --timeout 1
/* A thread whose system calls go to its handler whatever it may say, and one whose selector says so
 * all the time. */
#include "dispatched.h"
#include <link.h>

static volatile int over;
static uintptr_t first, end;

/* Where the C library's code is. */
static int find(struct dl_phdr_info *info, UNUSED size_t size, UNUSED void *unused)
{
        if (strstr(info->dlpi_name, "/libc.so") == NULL)
                return 0;
        for (int i = 0; i < info->dlpi_phnum; i++)
                if (info->dlpi_phdr[i].p_flags & PF_X) {
                        first = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
                        end = first + info->dlpi_phdr[i].p_memsz;
                }
        return 1;
}

static void *blind(void *built)
{
        CALL(prctl(PR_SET_SYSCALL_USER_DISPATCH, DISPATCH_FROM_RANGE, first, end - first, NULL));
        pthread_barrier_wait(built);
        wait_for("go");
        CALL(prctl(PR_SET_SYSCALL_USER_DISPATCH, DISPATCH_OFF, 0, 0, 0));
        return NULL;
}

static void *held(void *built)
{
        dispatch(DISPATCH_FROM_RANGE, restorer, restorer_end);
        pthread_barrier_wait(built);
        while (!over)
                asm volatile("pause");
        dispatch_no_more();
        return NULL;
}

int main(UNUSED int argc, char **argv)
{
        pthread_barrier_t built;
        pthread_t thread;

        install_handler();
        CHECK(dl_iterate_phdr(find, NULL) == 1);
        ZERO(pthread_barrier_init(&built, NULL, 2));
        ZERO(pthread_create(&thread, NULL, strcmp(argv[1], "blind") ? held : blind, &built));
        pthread_barrier_wait(&built);
        ready_and_wait();
        over = 1;
        ZERO(pthread_join(thread, NULL));
        pass();
}
