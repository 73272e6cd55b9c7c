/* The C library's rseq area is still registered: the kernel keeps its CPU number up to date. */
#include "victim.h"
#include <sched.h>
#include <sys/rseq.h>

static void check(void)
{
        struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
        cpu_set_t before, one;

        CALL(sched_getaffinity(0, sizeof(before), &before));
        for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
                if (!CPU_ISSET(cpu, &before))
                        continue;
                CPU_ZERO(&one);
                CPU_SET(cpu, &one);
                CALL(sched_setaffinity(0, sizeof(one), &one));
                CHECK(*(volatile uint32_t *)&area->cpu_id == cpu);
                CHECK((unsigned)sched_getcpu() == cpu);
        }
        CALL(sched_setaffinity(0, sizeof(before), &before));
        /* Registered already: a second registration elsewhere is refused. */
        static __thread struct rseq other __attribute__((aligned(32)));
        CHECK(syscall(SYS_rseq, &other, 32, 0, RSEQ_SIG) == -1);
}

static void *body(UNUSED void *unused)
{
        wait_for("go");
        check();
        return NULL;
}

int main(void)
{
        pthread_t thread;

        CHECK(__rseq_size > 0);
        check();
        thread = started_thread(body, NULL);
        ready_and_wait();
        check();
        ZERO(pthread_join(thread, NULL));
        pass();
}
