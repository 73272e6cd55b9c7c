/* The group of a job is who a descriptor's signals go to; a restore may put the job into another,
 * of which it is itself: so it is a signal that nobody dies of. */
#include "victim.h"

int main(void)
{
        struct f_owner_ex owner = {F_OWNER_PGRP, getpgrp()};
        int ends[2];
        sigset_t set;

        CHECK(getsid(0) != getpid() && getpgrp() == getpid());
        sigemptyset(&set);
        sigaddset(&set, SIGURG);
        ZERO(sigprocmask(SIG_BLOCK, &set, NULL));
        CALL(pipe(ends));
        CALL(fcntl(ends[0], F_SETOWN_EX, &owner));
        CALL(fcntl(ends[0], F_SETSIG, SIGURG));
        CALL(fcntl(ends[0], F_SETFL, O_ASYNC | O_NONBLOCK));
        ready_and_wait();
        memset(&owner, 0, sizeof(owner));
        CALL(fcntl(ends[0], F_GETOWN_EX, &owner));
        CHECK(owner.type == F_OWNER_PGRP && owner.pid == getpgrp());
        say("group %s\n", getpgrp() == getpid() ? "kept" : "changed");
        tell(ends[1]);
        CHECK(sigwaitinfo(&set, NULL) == SIGURG);
        pass();
}
