// args: real
// args: virtual
// refused: timer
/* An interval timer of setitimer(2), or alarm(2). */
#include "victim.h"
#include <sys/time.h>

int main(UNUSED int argc, char **argv)
{
        int which = argv[1][0] == 'r' ? ITIMER_REAL : ITIMER_VIRTUAL;
        struct itimerval far = {.it_value.tv_sec = 1000};

        CALL(setitimer(which, &far, NULL));
        ready_and_wait();
        CALL(getitimer(which, &far));
        CHECK(far.it_value.tv_sec > 900);
        pass();
}
