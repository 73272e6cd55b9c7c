/* Children that are forked, end and are waited for all the time, grandchildren among them. */
#include "victim.h"

static volatile int stop;

static void below(void)
{
        join_child(child((void (*)(void))getpid));
}

static void *maker(UNUSED void *unused)
{
        while (!stop)
                join_child(child(below));
        return NULL;
}

int main(void)
{
        pthread_t thread;

        ZERO(pthread_create(&thread, NULL, maker, NULL));
        ready_and_wait();
        stop = 1;
        ZERO(pthread_join(thread, NULL));
        CHECK(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
        pass();
}
