/* TCP sockets without a connection: listening, bound, new, closed; both families, their options. */
#include "inet.h"

static int group[2];

static int listening(int family, int backlog)
{
        int fd = CALL(socket(family, SOCK_STREAM, 0));

        set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        bind_local(fd, family, 0);
        CALL(listen(fd, backlog));
        return fd;
}

/* A connection to `fd` works, and is seen under the same port. */
static void serves(int fd, int family, int port)
{
        int client = CALL(socket(family, SOCK_STREAM, 0)), server;
        char byte;

        CHECK(port_of(fd) == port);
        connect_local(client, family, port);
        server = CALL(accept(fd, NULL, NULL));
        CHECK(write(client, "a", 1) == 1 && read(server, &byte, 1) == 1 && byte == 'a');
        /* The client first: its side has the TIME_WAIT. */
        close(client);
        CHECK(read(server, &byte, 1) == 0);
        close(server);
}

static void as_nobody(void)
{
        wait_for("go");
        CALL(setresuid(65534, 65534, 65534));
        /* The group is one user's: another member may join only as that user. */
        int fd = CALL(socket(AF_INET, SOCK_STREAM, 0));
        set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
        bind_local(fd, AF_INET, port_of(group[0]));
}

int main(void)
{
        struct linger linger = {1, 7};
        struct timeval limit = {3, 500000}, seen;
        socklen_t size = sizeof(linger);
        int four = listening(AF_INET, 11), six = listening(AF_INET6, 5);
        int port4 = port_of(four), port6 = port_of(six);
        int fresh = CALL(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0));
        int bound = CALL(socket(AF_INET, SOCK_STREAM, 0));
        int only = CALL(socket(AF_INET6, SOCK_STREAM, 0));
        int freebind = CALL(socket(AF_INET, SOCK_STREAM, 0));
        int device = CALL(socket(AF_INET, SOCK_STREAM, 0));
        int over = CALL(socket(AF_INET, SOCK_STREAM, 0)), other;
        struct sockaddr_in far = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xC6336407)};
        struct sock_filter code[] = {
            {0x28, 0, 0, 12}, {0x15, 1, 0, 77}, {6, 0, 0, 0xFFFF}, {6, 0, 0, 0}};
        struct sock_fprog program = {4, code};
        char name[16] = "", byte;

        CALL(setsockopt(fresh, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
        CALL(setsockopt(fresh, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
        CALL(setsockopt(fresh, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)));
        set(fresh, SOL_SOCKET, SO_RCVBUF, 50000);
        set(fresh, SOL_SOCKET, SO_KEEPALIVE, 1);
        set(fresh, SOL_SOCKET, SO_MARK, -99); /* the highest bit is set */
        set(fresh, SOL_SOCKET, SO_OOBINLINE, 1);
        set(fresh, IPPROTO_TCP, TCP_KEEPIDLE, 33);
        set(fresh, IPPROTO_TCP, TCP_KEEPINTVL, 34);
        set(fresh, IPPROTO_TCP, TCP_KEEPCNT, 5);
        set(fresh, IPPROTO_TCP, TCP_NODELAY, 1);
        set(fresh, IPPROTO_TCP, TCP_USER_TIMEOUT, 4321);
        set(fresh, IPPROTO_TCP, TCP_SYNCNT, 3);
        set(fresh, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9);
        set(fresh, IPPROTO_IPV6, IPV6_TCLASS, 8);
        set(four, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
        set(four, IPPROTO_IP, IP_TOS, 16);
        set(four, IPPROTO_IP, IP_TTL, 55);
        set(bound, SOL_SOCKET, SO_PRIORITY, 5);
        bind_local(bound, AF_INET, 0);
        int port = port_of(bound);
        set(only, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        bind_local(only, AF_INET6, 0);
        CALL(listen(only, 1));
        int port_only = port_of(only);
        set(freebind, IPPROTO_IP, IP_FREEBIND, 1);
        CALL(bind(freebind, (struct sockaddr *)&far, sizeof(far)));
        CALL(setsockopt(device, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
        CALL(fcntl(four, F_SETFL, O_NONBLOCK));
        connect_local(over, AF_INET, port4);
        other = CALL(accept(four, NULL, NULL));
        close(other);
        CHECK(read(over, &byte, 1) == 0);
        CALL(shutdown(over, SHUT_RDWR));
        until_closed(over);
        for (int i = 0; i < 2; i++) {
                int last = i ? port_of(group[0]) : 0;

                group[i] = CALL(socket(AF_INET, SOCK_STREAM, 0));
                set(group[i], SOL_SOCKET, SO_REUSEPORT, 1);
                CALL(fchown(group[i], 65534, 65534));
                bind_local(group[i], AF_INET, last);
                CALL(listen(group[i], 3));
        }
        pid_t nobody = child(as_nobody);

        ready_and_wait();
        CHECK(backlog_of(four) == 11 && backlog_of(six) == 5);
        CHECK(fcntl(four, F_GETFL) & O_NONBLOCK);
        CALL(fcntl(four, F_SETFL, 0));
        serves(four, AF_INET, port4);
        serves(six, AF_INET6, port6);
        serves(six, AF_INET, port6);
        serves(only, AF_INET6, port_only);
        CHECK(get(only, IPPROTO_IPV6, IPV6_V6ONLY) == 1);
        CHECK(get(six, IPPROTO_IPV6, IPV6_V6ONLY) == 0);
        CHECK(get(four, IPPROTO_IP, IP_TOS) == 16 && get(four, IPPROTO_IP, IP_TTL) == 55);
        CHECK(get(four, SOL_SOCKET, SO_REUSEADDR) == 1 &&
              get(bound, SOL_SOCKET, SO_REUSEADDR) == 0);
        CHECK(port_of(bound) == port && get(bound, SOL_SOCKET, SO_PRIORITY) == 5);
        CALL(listen(bound, 1));
        serves(bound, AF_INET, port);
        CHECK(get(freebind, IPPROTO_IP, IP_FREEBIND) == 1 && port_of(freebind) != 0);
        size = sizeof(name);
        CALL(getsockopt(device, SOL_SOCKET, SO_BINDTODEVICE, name, &size));
        CHECK(strcmp(name, "lo") == 0);
        CHECK(read(over, &byte, 1) == 0);

        linger.l_onoff = linger.l_linger = 0;
        size = sizeof(linger);
        CALL(getsockopt(fresh, SOL_SOCKET, SO_LINGER, &linger, &size));
        CHECK(linger.l_onoff == 1 && linger.l_linger == 7);
        size = sizeof(seen);
        CALL(getsockopt(fresh, SOL_SOCKET, SO_RCVTIMEO, &seen, &size));
        CHECK(seen.tv_sec == 3 && seen.tv_usec == 500000);
        struct sock_filter read_code[4];
        size = 4;
        CALL(getsockopt(fresh, SOL_SOCKET, SO_GET_FILTER, read_code, &size));
        CHECK(size == 4 && memcmp(read_code, code, sizeof(code)) == 0);
        CHECK(get(fresh, SOL_SOCKET, SO_RCVBUF) == 100000);
        CHECK(get(fresh, SOL_SOCKET, SO_KEEPALIVE) == 1 && get(fresh, SOL_SOCKET, SO_MARK) == -99);
        CHECK(get(fresh, SOL_SOCKET, SO_OOBINLINE) == 1);
        CHECK(get(fresh, IPPROTO_TCP, TCP_KEEPIDLE) == 33);
        CHECK(get(fresh, IPPROTO_TCP, TCP_KEEPINTVL) == 34);
        CHECK(get(fresh, IPPROTO_TCP, TCP_KEEPCNT) == 5 &&
              get(fresh, IPPROTO_TCP, TCP_NODELAY) == 1);
        CHECK(get(fresh, IPPROTO_TCP, TCP_USER_TIMEOUT) == 4321);
        CHECK(get(fresh, IPPROTO_TCP, TCP_SYNCNT) == 3);
        CHECK(get(fresh, IPPROTO_IPV6, IPV6_UNICAST_HOPS) == 9);
        CHECK(get(fresh, IPPROTO_IPV6, IPV6_TCLASS) == 8);
        CHECK(fcntl(fresh, F_GETFL) & O_NONBLOCK);
        join_child(nobody);
        CHECK(backlog_of(group[0]) == 3 && backlog_of(group[1]) == 3);
        CHECK(port_of(group[0]) == port_of(group[1]));
        pass();
}
