// args: flock
// args: posix
// refused: lock
/* A lock, and no --file-locks. */
#include "victim.h"
#include <sys/file.h>

int main(UNUSED int argc, char **argv)
{
        struct flock lock = {.l_type = F_WRLCK, .l_len = 10};
        int fd = made_file("data", 100, 1);

        if (argv[1][0] == 'f')
                CALL(flock(fd, LOCK_EX));
        else
                CALL(fcntl(fd, F_SETLK, &lock));
        ready_and_wait();
        pass();
}
