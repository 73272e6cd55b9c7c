// refused: seccomp
/* A filter in one thread only, which /proc/PID/status does not show. */
#include "victim.h"
#include <linux/filter.h>
#include <linux/seccomp.h>

static void *body(void *built)
{
        struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        struct sock_fprog program = {.len = 1, .filter = &allow};

        CALL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        CALL(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
        pthread_barrier_wait(built);
        wait_for("go");
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
