/* Access modes and status flags of regular files. */
#include "victim.h"

int main(void)
{
        int wanted[] = {O_RDONLY,
                        O_WRONLY,
                        O_RDWR,
                        O_RDWR | O_APPEND,
                        O_RDONLY | O_NONBLOCK,
                        O_RDWR | O_SYNC,
                        O_WRONLY | O_DSYNC,
                        O_RDONLY | O_NOATIME,
                        O_RDONLY | O_NOFOLLOW};
        enum { NR = sizeof(wanted) / sizeof(wanted[0]) };
        int fds[NR], before[NR];

        close(made_file("data", 100, 1));
        for (int i = 0; i < NR; i++) {
                fds[i] = CALL(open(in_folder("data"), wanted[i]));
                before[i] = CALL(fcntl(fds[i], F_GETFL));
        }
        ready_and_wait();
        for (int i = 0; i < NR; i++) {
                CHECK(fcntl(fds[i], F_GETFL) == before[i]);
                CHECK((write(fds[i], "x", 1) == 1) == ((wanted[i] & O_ACCMODE) != O_RDONLY));
        }
        pass();
}
