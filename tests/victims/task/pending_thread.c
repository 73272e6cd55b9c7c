/* Blocked signals that wait for one thread each, with what they carry. */
#include "victim.h"

enum { NR = 3 };
static pthread_barrier_t built;
static pid_t tids[NR];

static void check(int n)
{
        sigset_t set;
        siginfo_t info;
        struct timespec none = {0};

        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN + 5);
        for (int i = 0; i < 2; i++) {
                CHECK(CALL(sigtimedwait(&set, &info, &none)) == SIGRTMIN + 5);
                CHECK(info.si_code == SI_QUEUE && info.si_value.sival_int == 10 * n + i);
        }
        CHECK(sigtimedwait(&set, &info, &none) == -1 && errno == EAGAIN);
        sigaddset(&set, SIGUSR2);
        /* The C library would turn SI_TKILL into SI_USER. */
        CHECK(CALL(syscall(SYS_rt_sigtimedwait, &set, &info, &none, 8)) == SIGUSR2);
        CHECK(info.si_code == SI_TKILL && info.si_pid == getpid());
        CHECK(sigtimedwait(&set, &info, &none) == -1 && errno == EAGAIN);
}

static void *body(void *argument)
{
        int n = (int)(intptr_t)argument;

        tids[n] = tid_of_caller();
        pthread_barrier_wait(&built);
        wait_for("go");
        check(n);
        return NULL;
}

int main(void)
{
        pthread_t threads[NR];
        sigset_t set;

        threads[0] = pthread_self();
        tids[0] = tid_of_caller();
        sigfillset(&set);
        ZERO(pthread_sigmask(SIG_BLOCK, &set, NULL));
        ZERO(pthread_barrier_init(&built, NULL, NR));
        for (int i = 1; i < NR; i++)
                ZERO(pthread_create(&threads[i], NULL, body, (void *)(intptr_t)i));
        pthread_barrier_wait(&built);
        for (int n = 0; n < NR; n++) {
                for (int i = 0; i < 2; i++)
                        ZERO(pthread_sigqueue(threads[n], SIGRTMIN + 5,
                                              (union sigval){.sival_int = 10 * n + i}));
                CALL(syscall(SYS_tgkill, getpid(), tids[n], SIGUSR2));
        }
        ready_and_wait();
        check(0);
        for (int i = 1; i < NR; i++)
                ZERO(pthread_join(threads[i], NULL));
        pass();
}
