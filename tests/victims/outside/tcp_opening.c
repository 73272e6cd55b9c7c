/* A connection that nobody has answered yet: polled for, or waited for in connect(2). */
#include "victim.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

static struct sockaddr_in peer = {.sin_family = AF_INET};
static int sock;

static void *body(void *unused)
{
        (void)unused;
        CALL(connect(sock, (struct sockaddr *)&peer, sizeof(peer)));
        return NULL;
}

static int state(void)
{
        struct tcp_info info;

        CALL(getsockopt(sock, IPPROTO_TCP, TCP_INFO, &info, &(socklen_t){sizeof(info)}));
        return info.tcpi_state;
}

int main(int argc, char **argv)
{
        struct pollfd watched;
        pthread_t thread;
        int error;

        CHECK(argc == 3);
        int waits = !strcmp(argv[1], "waits");
        peer.sin_port = htons(atoi(argv[2]));
        peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        sock = CALL(socket(AF_INET, SOCK_STREAM | (waits ? 0 : SOCK_NONBLOCK), 0));
        watched = (struct pollfd){.fd = sock, .events = POLLOUT};
        if (waits)
                ZERO(pthread_create(&thread, NULL, body, NULL));
        else
                CHECK(connect(sock, (struct sockaddr *)&peer, sizeof(peer)) &&
                      errno == EINPROGRESS);
        while (state() != TCP_SYN_SENT)
                sched_yield();
        ready_and_wait();
        if (waits)
                ZERO(pthread_join(thread, NULL));
        CHECK(CALL(poll(&watched, 1, 60000)) == 1 && watched.revents == POLLOUT);
        CALL(getsockopt(sock, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof(error)}));
        CHECK(error == 0 && state() == TCP_ESTABLISHED);
        CHECK(CALL(fcntl(sock, F_GETFL)) == (O_RDWR | (waits ? 0 : O_NONBLOCK)));
        CHECK(write(sock, "hello", 5) == 5);
        pass();
}
