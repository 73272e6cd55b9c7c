// args: files
// args: fs
// refused: thread
/* A thread with a descriptor table or a working directory of its own. */
#include "victim.h"
#include <sched.h>

static int flag;

static void *body(void *built)
{
        CALL(unshare(flag));
        pthread_barrier_wait(built);
        wait_for("go");
        return NULL;
}

int main(UNUSED int argc, char **argv)
{
        pthread_barrier_t built;
        pthread_t thread;

        flag = argv[1][1] == 'i' ? CLONE_FILES : CLONE_FS;
        ZERO(pthread_barrier_init(&built, NULL, 2));
        ZERO(pthread_create(&thread, NULL, body, &built));
        pthread_barrier_wait(&built);
        ready_and_wait();
        ZERO(pthread_join(thread, NULL));
        pass();
}
