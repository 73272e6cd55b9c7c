// refused: F_SETOWN
/* A pipe that sends a signal when something arrives. */
#include "victim.h"

int main(void)
{
        int ends[2];

        CALL(pipe(ends));
        CALL(fcntl(ends[0], F_SETOWN, getpid()));
        CALL(fcntl(ends[0], F_SETFL, O_ASYNC));
        ready_and_wait();
        CHECK(fcntl(ends[0], F_GETOWN) == getpid());
        pass();
}
