// needs: cap_lease
// refused: lease
/* A read lease: looking at it must not break it. */
#include "victim.h"

int main(void)
{
        close(made_file("data", 100, 1));
        int fd = CALL(open(in_folder("data"), O_RDONLY));

        CHECK(signal(SIGIO, SIG_DFL) != SIG_ERR); /* fatal when the lease is broken */
        CALL(fcntl(fd, F_SETLEASE, F_RDLCK));
        ready_and_wait();
        CHECK(fcntl(fd, F_GETLEASE) == F_RDLCK);
        pass();
}
