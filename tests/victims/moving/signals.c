/* Real-time signals that a child sends without end: every one is handled once, in order. */
#include "victim.h"

static volatile int stop;
static volatile long handled;

static void handler(UNUSED int signo, siginfo_t *info, UNUSED void *context)
{
        if (info->si_value.sival_int != (int)handled)
                fail(__FILE__, __LINE__, "a signal is lost or out of order");
        handled++;
}

static void sender(void)
{
        pid_t parent = getppid();
        struct timespec pause = {.tv_nsec = 20000};

        for (int i = 0;; i++) {
                while (sigqueue(parent, SIGRTMIN, (union sigval){.sival_int = i}) == -1)
                        CHECK(errno == EAGAIN);
                nanosleep(&pause, NULL);
        }
}

static void *counter(UNUSED void *unused)
{
        volatile double sum = 0;

        while (!stop)
                for (int i = 1; i < 1000; i++)
                        sum += 1.0 / i;
        return NULL;
}

int main(void)
{
        struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
        pthread_t thread;
        sigset_t set;
        int status;

        CALL(sigaction(SIGRTMIN, &action, NULL));
        ZERO(pthread_create(&thread, NULL, counter, NULL));
        sigemptyset(&set); /* one thread takes them, so that their order can be seen */
        sigaddset(&set, SIGRTMIN);
        ZERO(pthread_sigmask(SIG_BLOCK, &set, NULL));
        pid_t pid = child(sender);
        while (!handled)
                sched_yield();
        ready_and_wait();
        stop = 1;
        ZERO(pthread_join(thread, NULL));
        CALL(kill(pid, SIGKILL));
        CHECK(CALL(waitpid(pid, &status, 0)) == pid && WIFSIGNALED(status));
        CHECK(handled > 0);
        pass();
}
