// args: stream
// args: datagram
// refused: socket
/* A listening TCP socket, a UDP socket. */
#include "victim.h"
#include <netinet/in.h>
#include <sys/socket.h>

int main(UNUSED int argc, char **argv)
{
        int stream = argv[1][0] == 's';
        int fd = CALL(socket(AF_INET, stream ? SOCK_STREAM : SOCK_DGRAM, 0));
        struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

        CALL(bind(fd, (struct sockaddr *)&any, sizeof(any)));
        if (stream)
                CALL(listen(fd, 5));
        ready_and_wait();
        CALL(fcntl(fd, F_GETFL));
        pass();
}
