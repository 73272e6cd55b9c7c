// refused: pts "line discipline"
// unseen: pts "line discipline"
/* A slave that swallows all that comes (N_NULL). */
#include "pty.h"

int main(void)
{
        int master = new_master(O_CLOEXEC), slave = open_slave(master, O_RDWR), null = 27, is = 0;

        CALL(ioctl(slave, TIOCSETD, &null));
        ready_and_wait();
        CALL(ioctl(slave, TIOCGETD, &is));
        CHECK(is == null);
        pass();
}
