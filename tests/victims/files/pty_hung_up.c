/*
 * Slaves that were hung up: one whose master was closed, one that was hung up by vhangup(2) and has
 * been opened anew since; and two descriptions of one terminal.
 */
#include "pty.h"
#include <poll.h>

static void is_hung_up(int fd)
{
        struct pollfd asked = {.fd = fd, .events = POLLIN};
        struct termios settings;
        char byte;

        CHECK(read(fd, &byte, 1) == 0);
        CHECK(write(fd, "x", 1) < 0 && errno == EIO);
        CHECK(tcgetattr(fd, &settings) < 0 && errno == EIO);
        CALL(poll(&asked, 1, 0));
        CHECK((asked.revents & (POLLHUP | POLLERR)) == (POLLHUP | POLLERR));
}

int main(void)
{
        int closed = new_master(O_CLOEXEC), alone = open_slave(closed, O_RDWR | O_NONBLOCK);
        char byte;

        int master = new_master(O_CLOEXEC), former = open_slave(master, O_RDWR);
        close(closed);
        CALL(ioctl(former, TIOCVHANGUP));
        is_hung_up(former);
        int again = open_slave(master, O_RDWR), other = open_slave(master, O_WRONLY);
        ready_and_wait();
        is_hung_up(alone);
        CHECK(fcntl(alone, F_GETFL) & O_NONBLOCK);
        is_hung_up(former);
        CHECK(write(other, "x", 1) == 1);
        CHECK(CALL(read(master, &byte, 1)) == 1 && byte == 'x');
        CHECK(write(master, "\n", 1) == 1);
        CHECK(CALL(read(again, &byte, 1)) == 1 && byte == '\n');
        pass();
}
