// args: opened
// args: console
// args: leader
// needs: cap_sys_admin /dev/tty63 /dev/console
/* Terminals that are there without the tree: a virtual one with settings of the tree's,
 * /dev/console as it is, and one that controls a session of the tree, with a job in the
 * foreground. */
#include "victim.h"
#include <sys/ioctl.h>
#include <termios.h>

static int tty, again;

static struct termios settings(int fd)
{
        struct termios now;

        CALL(tcgetattr(fd, &now));
        return now;
}

static int same(struct termios a, struct termios b)
{
        return a.c_iflag == b.c_iflag && a.c_oflag == b.c_oflag && a.c_cflag == b.c_cflag &&
               a.c_lflag == b.c_lflag && !memcmp(a.c_cc, b.c_cc, sizeof(a.c_cc));
}

/* One that hardly anybody else uses. */
static void open_one(int flags)
{
        char path[32];

        snprintf(path, sizeof(path), "/dev/tty%d", 16 + getpid() % 48);
        tty = CALL(open(path, flags | O_NOCTTY));
        again = CALL(open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY));
}

static void make_raw(void)
{
        struct termios now = settings(tty);

        cfmakeraw(&now);
        now.c_cc[VERASE] = '#';
        CALL(tcsetattr(tty, TCSANOW, &now));
}

static void end(const struct termios *old)
{
        CALL(tcsetattr(tty, TCSANOW, old));
        pass();
}

static void opened(void)
{
        int on = 0;

        open_one(O_RDWR);
        struct termios old = settings(tty);
        make_raw();
        CALL(ioctl(tty, TIOCEXCL));
        struct termios before = settings(tty);
        ready_and_wait();
        CHECK(same(before, settings(again)));
        CHECK(open("/dev/tty", O_RDWR) < 0 && errno == ENXIO);
        CHECK(CALL(fcntl(tty, F_GETFL)) == (O_RDWR | 0100000));
        CALL(ioctl(again, TIOCGEXCL, &on));
        CHECK(on == 1);
        CALL(ioctl(again, TIOCNXCL));
        CHECK(write(again, "\r", 1) == 1);
        end(&old);
}

static void console(void)
{
        unsigned int device, now;

        tty = CALL(open("/dev/console", O_WRONLY | O_NOCTTY | O_NONBLOCK));
        CALL(ioctl(tty, TIOCGDEV, &device));
        ready_and_wait();
        CALL(ioctl(tty, TIOCGDEV, &now));
        CHECK(now == device);
        pass();
}

static void job(void)
{
        wait_for("go");
        CHECK(CALL(tcgetsid(tty)) == getppid() && CALL(tcgetpgrp(tty)) == getpgrp());
        close(CALL(open("/dev/tty", O_RDWR)));
}

static void leader(void)
{
        CHECK(getsid(0) == getpid());
        signal(SIGTTOU, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        open_one(O_RDWR);
        struct termios old = settings(tty);
        CALL(ioctl(tty, TIOCSCTTY, 0));
        make_raw();
        int own = CALL(open("/dev/tty", O_RDWR | O_CLOEXEC));
        pid_t pid = child(job);
        CALL(setpgid(pid, pid));
        CALL(tcsetpgrp(own, pid));
        ready_and_wait();
        CHECK(CALL(tcgetsid(own)) == getpid() && CALL(tcgetpgrp(own)) == pid);
        CHECK(settings(own).c_cc[VERASE] == '#');
        join_child(pid);
        end(&old);
}

int main(UNUSED int argc, char **argv)
{
        if (argv[1][0] == 'o')
                opened();
        else if (argv[1][0] == 'c')
                console();
        else
                leader();
}
