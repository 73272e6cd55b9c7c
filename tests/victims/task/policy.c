// needs: cap_sys_nice
// args: fifo
// args: rr
// args: batch
// args: idle
// args: deadline
// args: other-reset
// args: batch-reset
// args: rr-reset
/* A thread under a scheduling policy of its own, which its children have or are reset from. */
#include "victim.h"
#include <sched.h>
#include <sys/resource.h>

struct attributes {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
};

static struct attributes wanted = {.size = sizeof(wanted)};

static void *body(void *built)
{
        struct attributes now;

        CALL(syscall(SYS_sched_setattr, 0, &wanted, 0));
        pthread_barrier_wait(built);
        wait_for("go");
        CALL(syscall(SYS_sched_getattr, 0, &now, sizeof(now), 0));
        CHECK(now.policy == wanted.policy && now.flags == wanted.flags);
        CHECK(now.nice == wanted.nice && now.priority == wanted.priority);
        if (wanted.policy == 6) {
                CHECK(now.runtime == wanted.runtime && now.deadline == wanted.deadline);
                CHECK(now.period == wanted.period);
                return NULL; /* its children can't be of its policy */
        }
        pid_t pid = CALL(fork());
        if (pid == 0) {
                int reset = wanted.flags & 1 && (wanted.policy == 1 || wanted.policy == 2);
                CHECK(sched_getscheduler(0) == (reset ? SCHED_OTHER : (int)wanted.policy));
                _exit(0);
        }
        join_child(pid);
        return NULL;
}

int main(UNUSED int argc, char **argv)
{
        static const char *const names[] = {"other", "fifo", "rr", "batch", "", "idle", "deadline"};
        pthread_barrier_t built;
        pthread_t thread;

        for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
                if (names[i][0] && !strncmp(argv[1], names[i], strlen(names[i])))
                        wanted.policy = i;
        wanted.flags = strstr(argv[1], "reset") != NULL;
        wanted.priority = wanted.policy == 1 || wanted.policy == 2 ? 3 : 0;
        /* For idle ones the kernel takes no niceness: they keep what they have. */
        wanted.nice = wanted.policy == 3   ? 7
                      : wanted.policy == 5 ? getpriority(PRIO_PROCESS, 0)
                                           : 0;
        if (wanted.policy == 6) {
                wanted.runtime = 1000000;
                wanted.deadline = 50000000;
                wanted.period = 100000000;
        }
        ZERO(pthread_barrier_init(&built, NULL, 2));
        ZERO(pthread_create(&thread, NULL, body, &built));
        pthread_barrier_wait(&built);
        ready_and_wait();
        CHECK(sched_getscheduler(0) == SCHED_OTHER);
        ZERO(pthread_join(thread, NULL));
        pass();
}
