// refused: timer
/* A POSIX timer that is armed. */
#include "victim.h"

int main(void)
{
        struct sigevent event = {.sigev_notify = SIGEV_NONE};
        struct itimerspec far = {.it_value.tv_sec = 1000};
        timer_t timer;

        CALL(timer_create(CLOCK_MONOTONIC, &event, &timer));
        CALL(timer_settime(timer, 0, &far, NULL));
        ready_and_wait();
        CALL(timer_gettime(timer, &far));
        CHECK(far.it_value.tv_sec > 900);
        pass();
}
