/* A process of 1,000 threads, all of which end by themselves. */
#include "victim.h"

enum { NR = 999 };
static pthread_barrier_t built;
static __thread int mine;

static void *body(void *argument)
{
        mine = (int)(intptr_t)argument;
        pthread_barrier_wait(&built);
        wait_for("go");
        CHECK(mine == (int)(intptr_t)argument);
        return argument;
}

int main(void)
{
        static pthread_t threads[NR];
        pthread_attr_t attributes;
        void *result;

        ZERO(pthread_attr_init(&attributes));
        ZERO(pthread_attr_setstacksize(&attributes, 64 * 1024));
        ZERO(pthread_barrier_init(&built, NULL, NR + 1));
        for (intptr_t i = 0; i < NR; i++)
                ZERO(pthread_create(&threads[i], &attributes, body, (void *)i));
        pthread_barrier_wait(&built);
        ready_and_wait();
        for (intptr_t i = 0; i < NR; i++) {
                ZERO(pthread_join(threads[i], &result));
                CHECK(result == (void *)i);
        }
        pass();
}
