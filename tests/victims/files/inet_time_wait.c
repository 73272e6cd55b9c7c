// args: v4
// args: v6
// cycles: 2
/*
 * A socket that listens, without SO_REUSEADDR, where connections that it has closed are in
 * TIME_WAIT. It goes on to listen there, alone.
 */
#include "victim.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static int listening;
static union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
} at;
static socklen_t size;

static int option(int fd, int level, int name)
{
        int value = 99;
        socklen_t length = sizeof(value);

        CALL(getsockopt(fd, level, name, &value, &length));
        return value;
}

/* A connection from here to here, which the side that accepted it ends first. */
static void connect_once(void)
{
        int client = CALL(socket(at.any.sa_family, SOCK_STREAM, 0));

        CALL(connect(client, &at.any, size));
        int server = CALL(accept(listening, NULL, NULL));
        CHECK(option(server, IPPROTO_TCP, TCP_REPAIR) == 0);
        CHECK(option(server, SOL_SOCKET, SO_REUSEADDR) == 0);
        CHECK(option(server, SOL_SOCKET, SO_REUSEPORT) == 0);
        tell(server);
        close(server);
        hear(client);
        hear_end(client);
        close(client);
}

static void listen_alone(int family)
{
        at.any.sa_family = (sa_family_t)family;
        if (family == AF_INET)
                at.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        else
                at.v6.sin6_addr = in6addr_loopback;
        size = family == AF_INET ? sizeof(at.v4) : sizeof(at.v6);
        listening = CALL(socket(family, SOCK_STREAM, 0));
        CALL(bind(listening, &at.any, size));
        CALL(listen(listening, 3));
        CALL(getsockname(listening, &at.any, &size));
        for (int i = 0; i < 3; i++)
                connect_once();
}

static void check(void)
{
        int yes = 1;

        CHECK(option(listening, SOL_SOCKET, SO_REUSEADDR) == 0);
        CHECK(option(listening, SOL_SOCKET, SO_REUSEPORT) == 0);
        for (int i = 0; i < 3; i++)
                connect_once();
        int other = CALL(socket(at.any.sa_family, SOCK_STREAM, 0));
        CALL(setsockopt(other, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes)));
        CALL(setsockopt(other, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)));
        CHECK(bind(other, &at.any, size) == -1 && errno == EADDRINUSE);
}

int main(int argc, char **argv)
{
        listen_alone(argc > 1 && !strcmp(argv[1], "v6") ? AF_INET6 : AF_INET);
        ready_and_wait();
        check();
        pass();
}
