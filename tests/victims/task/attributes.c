/* What prctl(2) keeps for a task: parent death signal, subreaper, timer slack, no huge pages. */
#include "victim.h"

static void *body(void *built)
{
        CALL(prctl(PR_SET_TIMERSLACK, 77777));
        pthread_barrier_wait(built);
        wait_for("go");
        CHECK(prctl(PR_GET_TIMERSLACK) == 77777);
        return NULL;
}

int main(void)
{
        pthread_barrier_t built;
        pthread_t thread;
        int value;

        CALL(prctl(PR_SET_PDEATHSIG, SIGWINCH));
        CALL(prctl(PR_SET_CHILD_SUBREAPER, 1));
        CALL(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
        ZERO(pthread_barrier_init(&built, NULL, 2));
        ZERO(pthread_create(&thread, NULL, body, &built));
        pthread_barrier_wait(&built);
        ready_and_wait();
        CALL(prctl(PR_GET_PDEATHSIG, &value));
        CHECK(value == SIGWINCH);
        CALL(prctl(PR_GET_CHILD_SUBREAPER, &value));
        CHECK(value == 1);
        CHECK(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1);
        ZERO(pthread_join(thread, NULL));
        pass();
}
