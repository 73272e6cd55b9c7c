/* Holds a file and blocks a signal, so that somebody can change what is seen of it. */
#include "victim.h"

int main(void)
{
        sigset_t set;

        made_file("data", 100, 1);
        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        CALL(sigprocmask(SIG_BLOCK, &set, NULL));
        ready_and_wait();
        pass();
}
