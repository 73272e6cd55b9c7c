/* Blocked signals that wait for the process: their order, number and what they carry. */
#include "victim.h"

enum { NR = 5 };

int main(void)
{
        sigset_t set;
        siginfo_t info;
        struct timespec none = {0};

        sigfillset(&set);
        CALL(sigprocmask(SIG_BLOCK, &set, NULL));
        for (int i = 0; i < NR; i++)
                CALL(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = 100 + i}));
        CALL(kill(getpid(), SIGUSR1));
        CALL(kill(getpid(), SIGUSR1)); /* an ordinary signal waits once */
        join_child(child((void (*)(void))getpid));
        ready_and_wait();
        for (int i = 0; i < NR; i++) {
                sigset_t one;

                sigemptyset(&one);
                sigaddset(&one, SIGRTMIN + 3);
                CHECK(CALL(sigtimedwait(&one, &info, &none)) == SIGRTMIN + 3);
                CHECK(info.si_value.sival_int == 100 + i);
                CHECK(info.si_code == SI_QUEUE && info.si_pid == getpid());
                CHECK(info.si_uid == getuid());
        }
        sigset_t rest;
        sigemptyset(&rest);
        sigaddset(&rest, SIGUSR1);
        CHECK(CALL(sigtimedwait(&rest, &info, &none)) == SIGUSR1);
        CHECK(info.si_code == SI_USER && info.si_pid == getpid());
        CHECK(sigtimedwait(&rest, &info, &none) == -1 && errno == EAGAIN);
        sigemptyset(&rest);
        sigaddset(&rest, SIGCHLD);
        CHECK(CALL(sigtimedwait(&rest, &info, &none)) == SIGCHLD);
        CHECK(info.si_code == CLD_EXITED && info.si_status == 0);
        CHECK(sigtimedwait(&set, &info, &none) == -1 && errno == EAGAIN);
        pass();
}
