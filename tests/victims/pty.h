/*
 * Pseudo terminals of victims. Their numbers are high: whatever else opens one on this machine gets
 * the lowest free number, and must not get that of a victim between its dump and its restore.
 */
#ifndef PTY_H
#define PTY_H
#include "victim.h"
#include <sys/file.h>
#include <sys/ioctl.h>
#include <termios.h>

/* A new master, unlocked. */
UNUSED static int new_master(int flags)
{
        int lowest = 100 + getpid() % 300, others[512], nr = 0, master;
        int lock = CALL(open("/dev/pts", O_RDONLY | O_DIRECTORY | O_CLOEXEC));

        CALL(flock(lock, LOCK_EX)); /* as ckpt does while it takes numbers */
        for (;;) {
                int number;

                master = CALL(open("/dev/ptmx", O_RDWR | O_NOCTTY | flags));
                CALL(ioctl(master, TIOCGPTN, &number));
                if (number >= lowest)
                        break;
                CHECK(nr < 512);
                others[nr++] = master;
        }
        while (nr)
                close(others[--nr]);
        close(lock);
        CALL(grantpt(master));
        CALL(unlockpt(master));
        return master;
}

UNUSED static int open_slave(int master, int flags)
{
        char path[64];

        ZERO(ptsname_r(master, path, sizeof(path)));
        return CALL(open(path, O_NOCTTY | flags));
}
#endif
