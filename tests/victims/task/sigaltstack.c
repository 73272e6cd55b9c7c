/* Alternate signal stacks of two threads, and a handler that is running on one during the dump. */
#include "victim.h"

static char stacks[2][64 * 1024] __attribute__((aligned(16)));
static __thread int number;
static volatile int handled[2], in_handler;

static int on_stack(int n)
{
        char here;

        return &here >= stacks[n] && &here < stacks[n] + sizeof(stacks[n]);
}

static void handler(UNUSED int signo)
{
        CHECK(on_stack(number));
        handled[number]++;
}

static void waiting_handler(UNUSED int signo)
{
        stack_t now;

        CHECK(on_stack(1));
        in_handler = 1;
        wait_for("go");
        CALL(sigaltstack(NULL, &now));
        CHECK(now.ss_flags & SS_ONSTACK);
        handled[1]++;
}

static void set_up(int n)
{
        stack_t stack = {.ss_sp = stacks[n], .ss_size = sizeof(stacks[n])};

        number = n;
        CALL(sigaltstack(&stack, NULL));
}

static void *body(UNUSED void *unused)
{
        set_up(1);
        CALL((int)raise(SIGUSR2));
        CALL((int)raise(SIGUSR1));
        CHECK(handled[1] == 2);
        return NULL;
}

int main(void)
{
        pthread_t thread;
        struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
        stack_t now;

        CALL(sigaction(SIGUSR1, &action, NULL));
        action.sa_handler = waiting_handler;
        CALL(sigaction(SIGUSR2, &action, NULL));
        set_up(0);
        thread = started_thread(body, NULL);
        while (!in_handler)
                sched_yield();
        ready_and_wait();
        CALL(sigaltstack(NULL, &now));
        CHECK(now.ss_sp == stacks[0] && now.ss_size == sizeof(stacks[0]) && now.ss_flags == 0);
        CALL((int)raise(SIGUSR1));
        CHECK(handled[0] == 1);
        ZERO(pthread_join(thread, NULL));
        pass();
}
