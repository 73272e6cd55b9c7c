// needs: cap_sys_nice
// args: batch
// args: round-robin
// args: reset-on-fork
// refused: scheduling
/* A thread under another scheduling policy than the usual one. */
#include "victim.h"
#include <sched.h>

static const char *policy;

static void *body(void *built)
{
        struct sched_param none = {0}, priority = {.sched_priority = 3};

        if (policy[0] == 'b')
                CALL(sched_setscheduler(0, SCHED_BATCH, &none));
        else if (policy[1] == 'o')
                CALL(sched_setscheduler(0, SCHED_RR, &priority));
        else
                CALL(sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &none));
        pthread_barrier_wait(built);
        wait_for("go");
        return NULL;
}

int main(UNUSED int argc, char **argv)
{
        pthread_barrier_t built;
        pthread_t thread;

        policy = argv[1];
        ZERO(pthread_barrier_init(&built, NULL, 2));
        ZERO(pthread_create(&thread, NULL, body, &built));
        pthread_barrier_wait(&built);
        ready_and_wait();
        ZERO(pthread_join(thread, NULL));
        pass();
}
