// refused: PR_SET_SYSCALL_USER_DISPATCH
// unseen: PR_SET_SYSCALL_USER_DISPATCH
/* A thread whose system calls would be sent to its handler, but for those of the C library. */
#include "victim.h"
#include <sys/prctl.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF          0
#define PR_SYS_DISPATCH_ON           1
#endif

static volatile char selector; /* 0: let through */

static void *body(void *built)
{
        CALL(prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selector));
        pthread_barrier_wait(built);
        wait_for("go");
        CALL(prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0));
        return NULL;
}

int main(void)
{
        pthread_barrier_t built;
        pthread_t thread;

        ZERO(pthread_barrier_init(&built, NULL, 2));
        ZERO(pthread_create(&thread, NULL, body, &built));
        pthread_barrier_wait(&built);
        ready_and_wait();
        ZERO(pthread_join(thread, NULL));
        pass();
}
