// cycles: 2
// args: nanosleep
// args: clock_nanosleep thread
/* A sleep of which the program wants to know what is left goes on for just that, through every
 * dump: what it is told in the end fits the clock. No time has to pass in a certain bound for that.
 */
#include "victim.h"

enum { LONG = 1000 };
static int by_clock;
static pid_t sleeper;
static int64_t before, blocked;

static int64_t now(void)
{
        struct timespec t;

        CALL(clock_gettime(CLOCK_MONOTONIC, &t));
        return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void handler(UNUSED int number)
{
}

static int64_t sleep_long(void)
{
        struct timespec wanted = {.tv_sec = LONG}, left = {0};
        long result;

        before = now();
        *(volatile pid_t *)&sleeper = tid_of_caller();
        if (by_clock)
                result = -clock_nanosleep(CLOCK_MONOTONIC, 0, &wanted, &left);
        else
                result = nanosleep(&wanted, &left) ? -errno : 0;
        CHECK(result == -EINTR);
        CHECK(wanted.tv_sec == LONG && wanted.tv_nsec == 0);
        return left.tv_sec * 1000000000LL + left.tv_nsec;
}

static void *body(UNUSED void *unused)
{
        int64_t left = sleep_long();

        CHECK(left >= before + LONG * 1000000000LL - now());
        return (void *)left;
}

/* Lets the test know when the sleeper is asleep, and wakes it after the test says so. */
static void *watcher(void *thread)
{
        struct timespec some = {.tv_nsec = 500000000};

        while (!*(volatile pid_t *)&sleeper)
                sched_yield();
        until_blocked(sleeper);
        blocked = now();
        CALL(clock_nanosleep(CLOCK_MONOTONIC, 0, &some, NULL));
        ready_and_wait();
        int64_t woken = now();
        ZERO(pthread_kill((pthread_t)thread, SIGUSR1));
        return (void *)woken;
}

int main(UNUSED int argc, char **argv)
{
        struct sigaction action = {.sa_handler = handler};
        void *left, *woken;
        pthread_t thread;

        by_clock = argv[1][0] == 'c';
        CALL(sigaction(SIGUSR1, &action, NULL));
        if (argc > 2) {
                ZERO(pthread_create(&thread, NULL, body, NULL));
                woken = watcher((void *)thread);
                ZERO(pthread_join(thread, &left));
        } else {
                ZERO(pthread_create(&thread, NULL, watcher, (void *)pthread_self()));
                left = body(NULL);
                ZERO(pthread_join(thread, &woken));
        }
        /* Begun anew, it would be too long by all that has passed since. */
        int64_t passed = (int64_t)woken - blocked;
        CHECK((int64_t)left <= LONG * 1000000000LL - passed + passed / 2);
        pass();
}
