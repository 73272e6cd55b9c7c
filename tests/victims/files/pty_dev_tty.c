// args: hung-up
// args: given-up
/* /dev/tty, left over from a terminal that is gone, or that is no session's any more. */
#include "pty.h"
#include <poll.h>

static void hung_up(int master, int tty)
{
        struct pollfd asked = {.fd = tty, .events = POLLIN};
        char byte;

        close(master);
        ready_and_wait();
        CHECK(read(tty, &byte, 1) == 0);
        CHECK(write(tty, "x", 1) < 0 && errno == EIO);
        CHECK(tcgetpgrp(tty) < 0);
        CHECK(poll(&asked, 1, 0) == 1 && asked.revents & POLLHUP);
}

static void given_up(int master, int tty)
{
        struct termios before, after;
        char text[16];

        CALL(tcgetattr(tty, &before));
        before.c_lflag &= ~(ECHO | ICANON);
        before.c_oflag = 0;
        before.c_cc[VERASE] = '#';
        CALL(tcsetattr(tty, TCSANOW, &before));
        CALL(ioctl(tty, TIOCNOTTY));
        CHECK(write(master, "in", 2) == 2);
        CHECK(write(tty, "out", 3) == 3);
        ready_and_wait();
        CHECK(open("/dev/tty", O_RDWR) < 0 && errno == ENXIO);
        CALL(tcgetattr(tty, &after));
        CHECK(after.c_cc[VERASE] == '#' && !(after.c_lflag & (ECHO | ICANON)));
        CHECK(CALL(read(tty, text, sizeof(text))) == 2 && !memcmp(text, "in", 2));
        for (size_t got = 0; got < 3;)
                got += CALL(read(master, text + got, sizeof(text) - got));
        CHECK(!memcmp(text, "out", 3));
        CHECK(getsid(0) == getpid());
        close(tty);
        CHECK(read(master, text, 1) < 0 && errno == EIO);
}

int main(UNUSED int argc, char **argv)
{
        int master = new_master(O_CLOEXEC), slave = open_slave(master, O_RDWR);

        signal(SIGHUP, SIG_IGN);
        CALL(ioctl(slave, TIOCSCTTY, 0));
        int tty = CALL(open("/dev/tty", O_RDWR));
        close(slave);
        (argv[1][0] == 'h' ? hung_up : given_up)(master, tty);
        pass();
}
