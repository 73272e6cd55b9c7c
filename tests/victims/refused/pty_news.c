// refused: ptmx "change of state"
// unseen: ptmx "change of state"
/* A master in packet mode that has not read yet that input was flushed. */
#include "pty.h"

int main(void)
{
        int master = new_master(O_CLOEXEC), slave = open_slave(master, O_RDWR), on = 1;
        char got[8];

        CALL(ioctl(master, TIOCPKT, &on));
        CHECK(write(slave, "abc", 3) == 3);
        CALL(tcflush(slave, TCIFLUSH));
        ready_and_wait();
        CHECK(CALL(read(master, got, sizeof(got))) == 1 && got[0] == TIOCPKT_FLUSHREAD);
        CHECK(CALL(read(master, got, sizeof(got))) == 4 && !memcmp(got, "\0abc", 4));
        pass();
}
