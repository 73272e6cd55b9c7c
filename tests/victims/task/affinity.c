/* Which CPUs the main thread and another may run on. */
#include "victim.h"
#include <sched.h>

static int last;

static void set(int cpu)
{
        cpu_set_t one;

        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        CALL(sched_setaffinity(0, sizeof(one), &one));
}

static void check(int cpu)
{
        cpu_set_t now;

        CALL(sched_getaffinity(0, sizeof(now), &now));
        CHECK(CPU_COUNT(&now) == 1 && CPU_ISSET(cpu, &now));
        CHECK(sched_getcpu() == cpu);
}

static void *body(void *built)
{
        set(last);
        pthread_barrier_wait(built);
        wait_for("go");
        check(last);
        return NULL;
}

int main(void)
{
        pthread_t thread;
        pthread_barrier_t built;
        cpu_set_t all;

        CALL(sched_getaffinity(0, sizeof(all), &all));
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
                if (CPU_ISSET(cpu, &all))
                        last = cpu;
        ZERO(pthread_barrier_init(&built, NULL, 2));
        ZERO(pthread_create(&thread, NULL, body, &built));
        pthread_barrier_wait(&built);
        set(0);
        ready_and_wait();
        check(0);
        ZERO(pthread_join(thread, NULL));
        pass();
}
