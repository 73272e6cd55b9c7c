/* A periodic timer whose signal waits, blocked: the kernel has not armed it again. The signal comes
 * once, and then the timer goes on. */
#include "victim.h"
#include <sys/time.h>

int main(void)
{
        struct itimerval often = {.it_value.tv_usec = 1000, .it_interval.tv_usec = 1000};
        struct timespec limit = {.tv_sec = 20}, none = {0};
        sigset_t set, waiting;

        sigemptyset(&set);
        sigaddset(&set, SIGALRM);
        CALL(sigprocmask(SIG_BLOCK, &set, NULL));
        CALL(setitimer(ITIMER_REAL, &often, NULL));
        do
                CALL(sigpending(&waiting));
        while (!sigismember(&waiting, SIGALRM));
        ready_and_wait();
        for (int i = 0; i < 5; i++)
                CHECK(CALL(sigtimedwait(&set, NULL, &limit)) == SIGALRM);
        often = (struct itimerval){0};
        CALL(setitimer(ITIMER_REAL, &often, NULL));
        while (sigtimedwait(&set, NULL, &none) == SIGALRM)
                ;
        CHECK(errno == EAGAIN);
        pass();
}
