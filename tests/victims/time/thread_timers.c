/* Timers of the CPU time of threads among others: each counts that of the thread that has made it,
 * and of no other, whoever is notified. */
#include "victim.h"

enum { NR = 4, LONG = 1000 };

static struct own {
        timer_t timer;
        pid_t tid;
} own[NR];
static pthread_barrier_t step;

static int64_t left(int which)
{
        struct itimerspec now;

        CALL(timer_gettime(own[which].timer, &now));
        CHECK(now.it_interval.tv_sec == 7);
        return now.it_value.tv_sec * 1000000000LL + now.it_value.tv_nsec;
}

static int64_t used(void)
{
        struct timespec now;

        CALL(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now));
        return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* The one in the middle has its neighbour notified. */
static void make(int which)
{
        struct itimerspec length = {.it_value.tv_sec = LONG, .it_interval.tv_sec = 7};
        struct sigevent event = {.sigev_notify = SIGEV_NONE};

        if (which > 1) {
                event.sigev_notify = SIGEV_THREAD_ID;
                event.sigev_signo = SIGRTMIN;
                event._sigev_un._tid = own[which == 2 ? 1 : which].tid;
        }
        CALL(timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &own[which].timer));
        CALL(timer_settime(own[which].timer, 0, &length, NULL));
}

/* This thread works; the others wait, but may be on their way to that for a while. */
static int works_alone(int which)
{
        int64_t theirs[NR], begun, mine;

        for (int i = 0; i < NR; i++)
                theirs[i] = left(i);
        mine = left(which);
        begun = used();
        while (used() - begun < 10000000)
                ;
        CHECK(left(which) <= mine - 10000000);
        for (int i = 0; i < NR; i++)
                if (i != which && left(i) != theirs[i])
                        return 0;
        return 1;
}

static void *body(void *argument)
{
        int which = (struct own *)argument - own;

        own[which].tid = tid_of_caller();
        pthread_barrier_wait(&step);
        make(which);
        pthread_barrier_wait(&step);
        if (which == 0)
                ready();
        wait_for("go");
        for (int turn = 0; turn < NR; turn++) {
                pthread_barrier_wait(&step);
                for (int tries = 0; turn == which && !works_alone(which); tries++)
                        CHECK(tries < 100);
                pthread_barrier_wait(&step);
        }
        CHECK(left(which) > 0 && left(which) <= LONG * 1000000000LL);
        return NULL;
}

int main(void)
{
        pthread_t threads[NR];

        ZERO(pthread_barrier_init(&step, NULL, NR));
        for (int i = 1; i < NR; i++)
                ZERO(pthread_create(&threads[i], NULL, body, &own[i]));
        body(&own[0]);
        for (int i = 1; i < NR; i++)
                ZERO(pthread_join(threads[i], NULL));
        pass();
}
