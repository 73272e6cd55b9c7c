// needs: cap_sys_nice
/* I/O priorities of the process and of one thread that has its own. */
#include "victim.h"

enum { WHO = 1, REAL_TIME = 1 << 13, BEST_EFFORT = 2 << 13, IDLE = 3 << 13 };

static void *body(void *built)
{
        CALL(syscall(SYS_ioprio_set, WHO, 0, REAL_TIME | 6));
        pthread_barrier_wait(built);
        wait_for("go");
        CHECK(syscall(SYS_ioprio_get, WHO, 0) == (REAL_TIME | 6));
        return NULL;
}

static void idle(void)
{
        CALL(syscall(SYS_ioprio_set, WHO, 0, IDLE));
        ready_and_wait();
        CHECK(syscall(SYS_ioprio_get, WHO, 0) == IDLE);
}

int main(void)
{
        pthread_barrier_t built;
        pthread_t thread;

        ZERO(pthread_barrier_init(&built, NULL, 2));
        ZERO(pthread_create(&thread, NULL, body, &built));
        pthread_barrier_wait(&built);
        CALL(syscall(SYS_ioprio_set, WHO, 0, BEST_EFFORT | 2));
        pid_t pid = child(idle);
        wait_for("go");
        CHECK(syscall(SYS_ioprio_get, WHO, 0) == (BEST_EFFORT | 2));
        ZERO(pthread_join(thread, NULL));
        join_child(pid);
        pass();
}
