/* An absolute deadline on CLOCK_MONOTONIC that lies beyond the dump is met, not missed. */
#include "victim.h"

static pid_t sleeper;

static void *body(void *until)
{
        struct timespec now;

        *(volatile pid_t *)&sleeper = tid_of_caller();
        ZERO(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, until, NULL));
        CALL(clock_gettime(CLOCK_MONOTONIC, &now));
        const struct timespec *wanted = until;
        double late =
            (double)(now.tv_sec - wanted->tv_sec) + (double)(now.tv_nsec - wanted->tv_nsec) / 1e9;
        CHECK(late >= 0 && late < 5);
        return NULL;
}

int main(void)
{
        pthread_t thread;
        struct timespec until;

        CALL(clock_gettime(CLOCK_MONOTONIC, &until));
        until.tv_sec += 3;
        ZERO(pthread_create(&thread, NULL, body, &until));
        while (!*(volatile pid_t *)&sleeper)
                sched_yield();
        until_blocked(sleeper);
        ready_and_wait();
        ZERO(pthread_join(thread, NULL));
        pass();
}
