// refused: timerfd
/* A timer behind a descriptor. */
#include "victim.h"
#include <sys/timerfd.h>

int main(void)
{
        CALL(timerfd_create(CLOCK_MONOTONIC, 0));
        ready_and_wait();
        pass();
}
