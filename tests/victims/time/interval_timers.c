// args: real
// args: virtual
// args: profile
/* What is left of an interval timer of setitimer(2), and its interval. */
#include "victim.h"
#include <sys/time.h>

int main(UNUSED int argc, char **argv)
{
        int which = argv[1][0] == 'r'   ? ITIMER_REAL
                    : argv[1][0] == 'v' ? ITIMER_VIRTUAL
                                        : ITIMER_PROF;
        struct itimerval far = {
            .it_value = {.tv_sec = 1000, .tv_usec = 250000},
            .it_interval = {.tv_sec = 77, .tv_usec = 123000},
        };

        CALL(setitimer(which, &far, NULL));
        ready_and_wait();
        CALL(getitimer(which, &far));
        CHECK(far.it_value.tv_sec > 900 && far.it_value.tv_sec <= 1000);
        CHECK(far.it_interval.tv_sec == 77);
        CHECK(far.it_interval.tv_usec >= 123000 && far.it_interval.tv_usec < 130000);
        for (int other = 0; other < 3; other++) {
                CALL(getitimer(other, &far));
                CHECK(other == which || far.it_value.tv_sec + far.it_value.tv_usec == 0);
        }
        far = (struct itimerval){.it_value.tv_usec = 1000};
        CHECK(signal(SIGALRM, SIG_IGN) != SIG_ERR);
        CALL(setitimer(ITIMER_REAL, &far, NULL));
        pass();
}
