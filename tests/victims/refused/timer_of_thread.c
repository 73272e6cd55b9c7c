// refused: "POSIX timer" "does not run"
// unseen: "POSIX timer" "does not run"
/* A timer of one thread's CPU time that does not run: nobody can tell which thread's it is. */
#include "victim.h"

static void *body(UNUSED void *argument)
{
        wait_for("go");
        return NULL;
}

int main(void)
{
        struct sigevent none = {.sigev_notify = SIGEV_NONE};
        timer_t timer;
        pthread_t thread = started_thread(body, NULL);

        CALL(timer_create(CLOCK_THREAD_CPUTIME_ID, &none, &timer));
        ready_and_wait();
        ZERO(pthread_join(thread, NULL));
        pass();
}
