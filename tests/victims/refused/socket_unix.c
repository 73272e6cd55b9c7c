// refused: socket
/* A pair of connected UNIX sockets. */
#include "victim.h"
#include <sys/socket.h>

int main(void)
{
        int ends[2];

        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
        ready_and_wait();
        tell(ends[0]);
        hear(ends[1]);
        pass();
}
