/* Timers that go off once, before, during or after the dump, do so exactly once. */
#include "victim.h"

enum { NR = 60 };

int main(void)
{
        struct timespec none = {0};
        timer_t timers[NR];
        int seen[NR] = {0};
        sigset_t set, waiting;
        siginfo_t info;

        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN);
        CALL(sigprocmask(SIG_BLOCK, &set, NULL));
        for (int i = 0; i < NR; i++) {
                struct sigevent event = {.sigev_notify = SIGEV_SIGNAL,
                                         .sigev_signo = SIGRTMIN,
                                         .sigev_value.sival_int = i};
                struct itimerspec at = {.it_value.tv_sec = i / 40,
                                        .it_value.tv_nsec = i % 40 * 25000000L + 1000000};

                CALL(timer_create(CLOCK_MONOTONIC, &event, &timers[i]));
                CALL(timer_settime(timers[i], 0, &at, NULL));
        }
        do
                CALL(sigpending(&waiting));
        while (!sigismember(&waiting, SIGRTMIN));
        ready_and_wait();
        for (int i = 0; i < NR; i++) {
                struct itimerspec left;

                do
                        CALL(timer_gettime(timers[i], &left));
                while (left.it_value.tv_sec || left.it_value.tv_nsec);
        }
        while (sigtimedwait(&set, &info, &none) == SIGRTMIN) {
                CHECK(info.si_code == SI_TIMER);
                seen[info.si_value.sival_int]++;
        }
        for (int i = 0; i < NR; i++)
                CHECK(seen[i] == 1);
        pass();
}
