/* Close-on-exec of each descriptor: exec after the restore keeps and closes what it should. */
#include "victim.h"

int main(int argc, char **argv)
{
        if (argc == 3) {
                CHECK(fcntl(atoi(argv[1]), F_GETFD) == 0);
                CHECK(fcntl(atoi(argv[2]), F_GETFD) == -1 && errno == EBADF);
                pass();
        }
        int kept = made_file("kept", 10, 1), closed = made_file("closed", 10, 1);
        char first[16], second[16];

        CALL(fcntl(closed, F_SETFD, FD_CLOEXEC));
        ready_and_wait();
        snprintf(first, sizeof(first), "%d", kept);
        snprintf(second, sizeof(second), "%d", closed);
        CALL(execl("/proc/self/exe", argv[0], first, second, NULL));
}
