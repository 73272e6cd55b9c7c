/* The leader of a session on a terminal that somebody else has made, with a job in the foreground
 * and /dev/tty open, as a shell has them. */
#include "victim.h"
#include <sys/ioctl.h>
#include <termios.h>

static int tty;

static void on_terminal(void)
{
        struct termios now;

        CALL(tcgetattr(tty, &now));
        CHECK(!(now.c_lflag & ECHO));
        CHECK(CALL(tcgetsid(0)) == CALL(getsid(0)) && CALL(tcgetsid(tty)) == getsid(0));
}

static void job(void)
{
        char line[16] = "";

        wait_for("go");
        on_terminal();
        CHECK(CALL(tcgetpgrp(0)) == getpgrp() && CALL(tcgetpgrp(tty)) == getpgrp());
        CHECK(CALL(read(tty, line, sizeof(line))) == 5 && !strcmp(line, "word\n"));
}

int main(void)
{
        struct termios settings;

        CHECK(getsid(0) == getpid());
        signal(SIGTTOU, SIG_IGN);
        CALL(ioctl(0, TIOCSCTTY, 0));
        tty = CALL(open("/dev/tty", O_RDWR | O_CLOEXEC));
        CALL(tcgetattr(tty, &settings));
        settings.c_lflag &= ~ECHO;
        CALL(tcsetattr(tty, TCSANOW, &settings));
        pid_t pid = child(job);
        CALL(setpgid(pid, pid));
        CALL(tcsetpgrp(0, pid));
        ready_and_wait();
        on_terminal();
        CHECK(CALL(tcgetpgrp(tty)) == pid);
        join_child(pid);
        pass();
}
