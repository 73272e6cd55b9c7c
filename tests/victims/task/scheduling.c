// needs: cap_sys_nice
/* Nice values, policies and priorities of process and threads. */
#include "victim.h"
#include <sched.h>
#include <sys/resource.h>

static pthread_barrier_t built;

static void *nice_thread(UNUSED void *unused)
{
        CALL(setpriority(PRIO_PROCESS, tid_of_caller(), 11));
        pthread_barrier_wait(&built);
        wait_for("go");
        CHECK(getpriority(PRIO_PROCESS, tid_of_caller()) == 11);
        return NULL;
}

static void *batch_thread(UNUSED void *unused)
{
        struct sched_param none = {0};

        CALL(sched_setscheduler(0, SCHED_BATCH, &none));
        pthread_barrier_wait(&built);
        wait_for("go");
        CHECK(sched_getscheduler(0) == SCHED_BATCH);
        return NULL;
}

static void *round_robin_thread(UNUSED void *unused)
{
        struct sched_param priority = {.sched_priority = 3}, now;

        CALL(sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &priority));
        pthread_barrier_wait(&built);
        wait_for("go");
        CHECK(sched_getscheduler(0) == (SCHED_RR | SCHED_RESET_ON_FORK));
        CALL(sched_getparam(0, &now));
        CHECK(now.sched_priority == 3);
        return NULL;
}

int main(void)
{
        void *(*bodies[])(void *) = {nice_thread, batch_thread, round_robin_thread};
        pthread_t threads[3];

        ZERO(pthread_barrier_init(&built, NULL, 4));
        CALL(setpriority(PRIO_PROCESS, 0, -4));
        for (int i = 0; i < 3; i++)
                ZERO(pthread_create(&threads[i], NULL, bodies[i], NULL));
        pthread_barrier_wait(&built);
        ready_and_wait();
        errno = 0;
        CHECK(getpriority(PRIO_PROCESS, 0) == -4 && errno == 0);
        for (int i = 0; i < 3; i++)
                ZERO(pthread_join(threads[i], NULL));
        pass();
}
