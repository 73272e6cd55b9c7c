/* A serial line, open as a logger has it; no carrier is there, and an ordinary open(2) could hang.
 */
#include "victim.h"
#include <termios.h>

int main(UNUSED int argc, char **argv)
{
        int fd = CALL(open(argv[1], O_RDONLY | O_NOCTTY | O_NONBLOCK));
        struct termios before, after;

        CALL(fcntl(fd, F_SETFL, 0));
        int flags = CALL(fcntl(fd, F_GETFL));
        CALL(tcgetattr(fd, &before));
        ready_and_wait();
        CALL(tcgetattr(fd, &after));
        CHECK(before.c_cflag == after.c_cflag && before.c_lflag == after.c_lflag);
        CHECK(cfgetospeed(&before) == cfgetospeed(&after));
        CHECK(CALL(fcntl(fd, F_GETFL)) == flags);
        pass();
}
