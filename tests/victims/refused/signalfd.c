// refused: signalfd
/* Signals behind a descriptor. */
#include "victim.h"
#include <sys/signalfd.h>

int main(void)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        CALL(signalfd(-1, &set, 0));
        ready_and_wait();
        pass();
}
