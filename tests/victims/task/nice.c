// needs: cap_sys_nice
/* Nice values of the process and of one thread that has its own. */
#include "victim.h"
#include <sys/resource.h>

static void *body(void *built)
{
        CALL(setpriority(PRIO_PROCESS, tid_of_caller(), 11));
        pthread_barrier_wait(built);
        wait_for("go");
        CHECK(getpriority(PRIO_PROCESS, tid_of_caller()) == 11);
        return NULL;
}

int main(void)
{
        pthread_barrier_t built;
        pthread_t thread;

        ZERO(pthread_barrier_init(&built, NULL, 2));
        CALL(setpriority(PRIO_PROCESS, 0, -4));
        ZERO(pthread_create(&thread, NULL, body, &built));
        pthread_barrier_wait(&built);
        ready_and_wait();
        errno = 0;
        CHECK(getpriority(PRIO_PROCESS, 0) == -4 && errno == 0);
        ZERO(pthread_join(thread, NULL));
        pass();
}
