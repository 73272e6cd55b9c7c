/* A signal mask of its own in each thread. */
#include "victim.h"

enum { NR = 5 };
static pthread_barrier_t built;

static void mask_for(int n, sigset_t *set)
{
        sigemptyset(set);
        sigaddset(set, SIGHUP + n);
        sigaddset(set, SIGRTMIN + n);
        sigaddset(set, 64);
}

static void check(int n)
{
        sigset_t wanted, now;

        mask_for(n, &wanted);
        ZERO(pthread_sigmask(SIG_SETMASK, NULL, &now));
        CHECK(memcmp(&wanted, &now, 8) == 0);
}

static void *body(void *argument)
{
        int n = (int)(intptr_t)argument;
        sigset_t set;

        mask_for(n, &set);
        ZERO(pthread_sigmask(SIG_SETMASK, &set, NULL));
        pthread_barrier_wait(&built);
        wait_for("go");
        check(n);
        return NULL;
}

int main(void)
{
        pthread_t threads[NR];
        sigset_t set;

        ZERO(pthread_barrier_init(&built, NULL, NR));
        for (int i = 1; i < NR; i++)
                ZERO(pthread_create(&threads[i], NULL, body, (void *)(intptr_t)i));
        mask_for(0, &set);
        ZERO(pthread_sigmask(SIG_SETMASK, &set, NULL));
        pthread_barrier_wait(&built);
        ready_and_wait();
        check(0);
        for (int i = 1; i < NR; i++)
                ZERO(pthread_join(threads[i], NULL));
        pass();
}
