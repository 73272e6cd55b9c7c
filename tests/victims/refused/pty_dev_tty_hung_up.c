// refused: /dev/tty "hung up"
// unseen: /dev/tty "hung up"
/* /dev/tty, left over from a terminal that is gone. */
#include "pty.h"

int main(void)
{
        int master = new_master(O_CLOEXEC), slave = open_slave(master, O_RDWR);
        char byte;

        signal(SIGHUP, SIG_IGN);
        CALL(ioctl(slave, TIOCSCTTY, 0));
        int tty = CALL(open("/dev/tty", O_RDWR));
        close(slave);
        close(master);
        ready_and_wait();
        CHECK(read(tty, &byte, 1) == 0);
        pass();
}
