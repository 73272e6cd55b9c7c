// args: files
// args: together
// refused: thread
/* A thread with a descriptor table of its own; two that share a working directory with each other
 * and not with their process. */
#include "victim.h"
#include <sched.h>

static int together;

static void *shares(void *built)
{
        pthread_barrier_wait(built);
        wait_for("go");
        return NULL;
}

static void *body(void *built)
{
        pthread_t thread;

        CALL(unshare(together ? CLONE_FS : CLONE_FILES));
        if (together)
                ZERO(pthread_create(&thread, NULL, shares, built));
        pthread_barrier_wait(built);
        wait_for("go");
        if (together)
                ZERO(pthread_join(thread, NULL));
        return NULL;
}

int main(UNUSED int argc, char **argv)
{
        pthread_barrier_t built;
        pthread_t thread;

        together = !strcmp(argv[1], "together");
        ZERO(pthread_barrier_init(&built, NULL, 2 + together));
        ZERO(pthread_create(&thread, NULL, body, &built));
        pthread_barrier_wait(&built);
        ready_and_wait();
        ZERO(pthread_join(thread, NULL));
        pass();
}
