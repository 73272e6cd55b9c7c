/* Threads that are born and end all the time; none is lost, none is joined twice. */
#include "victim.h"

static volatile int stop;
static int ended;

static void *brief(void *argument)
{
        __atomic_add_fetch(&ended, 1, __ATOMIC_SEQ_CST);
        return argument;
}

static void *maker(UNUSED void *unused)
{
        intptr_t made = 0;

        while (!stop) {
                pthread_t threads[4];
                void *result;

                for (int i = 0; i < 4; i++)
                        ZERO(pthread_create(&threads[i], NULL, brief, (void *)(made + i)));
                for (int i = 0; i < 4; i++) {
                        ZERO(pthread_join(threads[i], &result));
                        CHECK(result == (void *)(made + i));
                }
                made += 4;
        }
        return (void *)made;
}

int main(void)
{
        pthread_t makers[2];
        intptr_t all = 0;
        void *made;

        for (int i = 0; i < 2; i++)
                ZERO(pthread_create(&makers[i], NULL, maker, NULL));
        ready_and_wait();
        stop = 1;
        for (int i = 0; i < 2; i++) {
                ZERO(pthread_join(makers[i], &made));
                all += (intptr_t)made;
        }
        CHECK(all > 0 && ended == all);
        pass();
}
