/* A thread inside sigsuspend: the mask it will get back is not the one that is in force. */
#include "victim.h"

static volatile sig_atomic_t handled;
static pid_t sleeper;

static void handler(UNUSED int signo)
{
        handled++;
}

static void *body(UNUSED void *unused)
{
        sigset_t before, during, after;

        sigemptyset(&before);
        sigaddset(&before, SIGUSR1);
        sigaddset(&before, SIGALRM);
        ZERO(pthread_sigmask(SIG_SETMASK, &before, NULL));
        sigfillset(&during);
        sigdelset(&during, SIGUSR1);
        *(volatile pid_t *)&sleeper = tid_of_caller();
        CHECK(sigsuspend(&during) == -1 && errno == EINTR);
        CHECK(handled == 1);
        ZERO(pthread_sigmask(SIG_SETMASK, NULL, &after));
        CHECK(memcmp(&before, &after, 8) == 0);
        return NULL;
}

int main(void)
{
        struct sigaction action = {.sa_handler = handler};
        pthread_t thread;

        CALL(sigaction(SIGUSR1, &action, NULL));
        ZERO(pthread_create(&thread, NULL, body, NULL));
        while (!*(volatile pid_t *)&sleeper)
                sched_yield();
        until_blocked(sleeper);
        ready_and_wait();
        CHECK(handled == 0);
        CALL(syscall(SYS_tgkill, getpid(), sleeper, SIGUSR1));
        ZERO(pthread_join(thread, NULL));
        pass();
}
