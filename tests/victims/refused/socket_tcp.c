// args: connected
// args: opening
// args: pending
// refused: TCP
/* A TCP connection without the option for it, one that is being opened, one that waits to be
 * accepted. */
#include "inet.h"

int main(UNUSED int argc, char **argv)
{
        int listener = CALL(socket(AF_INET, SOCK_STREAM, 0)), fd = -1, peer = -1, port;

        bind_local(listener, AF_INET, 0);
        port = port_of(listener);
        CALL(listen(listener, 0));
        peer = CALL(socket(AF_INET, SOCK_STREAM, 0));
        connect_local(peer, AF_INET, port);
        if (argv[1][0] == 'o') {
                /* The queue of the listening socket is full: nobody answers. */
                fd = CALL(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
                union any address;
                socklen_t size = local(&address, AF_INET, port);
                CHECK(connect(fd, &address.all, size) == -1 && errno == EINPROGRESS);
                CHECK(info_of(fd).tcpi_state == TCP_SYN_SENT);
        } else if (argv[1][0] == 'c') {
                fd = CALL(accept(listener, NULL, NULL));
        }
        ready_and_wait();
        CHECK(info_of(peer).tcpi_state == TCP_ESTABLISHED);
        pass();
}
