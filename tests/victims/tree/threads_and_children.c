/* Children made by another thread than the first are children of the process. */
#include "victim.h"

static pid_t kid;
static pthread_barrier_t built;

static void waiting(void)
{
        wait_for("go");
}

static void *body(UNUSED void *unused)
{
        kid = child(waiting);
        pthread_barrier_wait(&built);
        wait_for("go");
        join_child(kid);
        return NULL;
}

int main(void)
{
        pthread_t thread;

        ZERO(pthread_barrier_init(&built, NULL, 2));
        ZERO(pthread_create(&thread, NULL, body, NULL));
        pthread_barrier_wait(&built);
        ready_and_wait();
        ZERO(pthread_join(thread, NULL));
        pass();
}
