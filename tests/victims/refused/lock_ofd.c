// dump: --file-locks
// refused: lock
/* A lock of an open file description. */
#include "victim.h"

int main(void)
{
        struct flock lock = {.l_type = F_WRLCK, .l_len = 10};
        int fd = made_file("data", 100, 1);

        CALL(fcntl(fd, F_OFD_SETLK, &lock));
        ready_and_wait();
        pass();
}
