/* What the victims with sockets of IPv4 and IPv6 have in common. */
#ifndef INET_H
#define INET_H

#include "victim.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

union any {
        struct sockaddr all;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
};

UNUSED static void set(int fd, int level, int name, int value)
{
        CALL(setsockopt(fd, level, name, &value, sizeof(value)));
}

UNUSED static int get(int fd, int level, int name)
{
        int value = 0;
        socklen_t size = sizeof(value);

        CALL(getsockopt(fd, level, name, &value, &size));
        return value;
}

/* The loopback address of `family`; the size of it. */
UNUSED static socklen_t local(union any *address, int family, int port)
{
        memset(address, 0, sizeof(*address));
        address->all.sa_family = family;
        if (family == AF_INET) {
                address->four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
                address->four.sin_port = htons(port);
                return sizeof(address->four);
        }
        address->six.sin6_addr = in6addr_loopback;
        address->six.sin6_port = htons(port);
        return sizeof(address->six);
}

/* To the loopback address; of IPv6 to all addresses unless it is V6ONLY. */
UNUSED static void bind_local(int fd, int family, int port)
{
        union any address;
        socklen_t size = local(&address, family, port);

        if (family == AF_INET6 && !get(fd, IPPROTO_IPV6, IPV6_V6ONLY))
                address.six.sin6_addr = in6addr_any;
        CALL(bind(fd, &address.all, size));
}

UNUSED static void connect_local(int fd, int family, int port)
{
        union any address;
        socklen_t size = local(&address, family, port);

        CALL(connect(fd, &address.all, size));
}

UNUSED static int port_of(int fd)
{
        union any address;
        socklen_t size = sizeof(address);

        CALL(getsockname(fd, &address.all, &size));
        return ntohs(address.four.sin_port);
}

UNUSED static struct tcp_info info_of(int fd)
{
        struct tcp_info info;
        socklen_t size = sizeof(info);

        CALL(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size));
        return info;
}

/* Of a listening socket. */
UNUSED static int backlog_of(int fd)
{
        struct tcp_info info = info_of(fd);

        CHECK(info.tcpi_state == TCP_LISTEN);
        return (int)info.tcpi_sacked;
}

UNUSED static void until_closed(int fd)
{
        while (info_of(fd).tcpi_state != TCP_CLOSE)
                sched_yield();
}
#endif
