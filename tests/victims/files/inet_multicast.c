/* Sockets of UDP in multicast groups: any source, one source, all but one; each member gets what is
 * sent to its group before and after, a stranger does not, and groups can be left. Loopback has no
 * route for groups of IPv6. */
#include "inet.h"
#include <net/if.h>
#include <poll.h>

static const char *const groups[] = {"239.77.1.1", "239.77.1.2", "ff01::77:1"};

static socklen_t group_of(union any *to, int i, int port)
{
        int family = strchr(groups[i], ':') ? AF_INET6 : AF_INET;
        socklen_t size = local(to, family, port);

        CHECK(inet_pton(family, groups[i],
                        family == AF_INET ? (void *)&to->four.sin_addr
                                          : (void *)&to->six.sin6_addr) == 1);
        if (family == AF_INET6)
                to->six.sin6_scope_id = if_nametoindex("lo");
        return size;
}

static int bound(int i)
{
        union any name;
        int fd = CALL(socket(strchr(groups[i], ':') ? AF_INET6 : AF_INET, SOCK_DGRAM, 0));
        socklen_t size = group_of(&name, i, 0);

        CALL(bind(fd, &name.all, size));
        set(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
        if (name.all.sa_family == AF_INET6)
                set(fd, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
        return fd;
}

/* What is sent to group `i` at the port of `fd` arrives there, or not. */
static void hears(int fd, int i, int wanted)
{
        struct pollfd arrival = {.fd = fd, .events = POLLIN};
        struct ip_mreqn out = {.imr_ifindex = (int)if_nametoindex("lo")};
        union any to;
        socklen_t size = group_of(&to, i, port_of(fd));
        int sender = CALL(socket(to.all.sa_family, SOCK_DGRAM, 0));
        char text[8];

        bind_local(sender, to.all.sa_family, 0);
        if (to.all.sa_family == AF_INET)
                CALL(setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof(out)));
        else
                set(sender, IPPROTO_IPV6, IPV6_MULTICAST_IF, out.imr_ifindex);
        CHECK(CALL(sendto(sender, "hello", 6, 0, &to.all, size)) == 6);
        close(sender);
        CHECK(poll(&arrival, 1, wanted ? 30000 : 0) == wanted);
        CHECK(!wanted || recv(fd, text, 8, MSG_DONTWAIT) == 6);
}

int main(void)
{
        int lo = (int)if_nametoindex("lo"), any = bound(0), one = bound(0), but = bound(1);
        int six = bound(2), stranger = bound(0);
        struct ip_mreqn first = {.imr_address.s_addr = htonl(INADDR_LOOPBACK), .imr_ifindex = lo};
        struct ip_mreq_source from = {.imr_interface.s_addr = htonl(INADDR_LOOPBACK),
                                      .imr_sourceaddr.s_addr = htonl(INADDR_LOOPBACK)};
        struct ipv6_mreq wide = {.ipv6mr_interface = (unsigned)lo};

        first.imr_multiaddr.s_addr = from.imr_multiaddr.s_addr = inet_addr(groups[0]);
        CALL(setsockopt(any, IPPROTO_IP, IP_ADD_MEMBERSHIP, &first, sizeof(first)));
        CALL(setsockopt(one, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &from, sizeof(from)));
        first.imr_multiaddr.s_addr = from.imr_multiaddr.s_addr = inet_addr(groups[1]);
        CALL(setsockopt(but, IPPROTO_IP, IP_ADD_MEMBERSHIP, &first, sizeof(first)));
        CALL(setsockopt(but, IPPROTO_IP, IP_BLOCK_SOURCE, &from, sizeof(from)));
        CHECK(inet_pton(AF_INET6, groups[2], &wide.ipv6mr_multiaddr) == 1);
        CALL(setsockopt(six, IPPROTO_IPV6, IPV6_JOIN_GROUP, &wide, sizeof(wide)));
        for (int i = 0; i < 2; i++) {
                hears(any, 0, 1);
                hears(one, 0, 1);
                hears(stranger, 0, 0);
                hears(but, 1, 0);
                if (i == 0)
                        ready_and_wait();
        }
        CALL(setsockopt(but, IPPROTO_IP, IP_UNBLOCK_SOURCE, &from, sizeof(from)));
        hears(but, 1, 1);
        struct ip_mreq leave = {{inet_addr(groups[0])}, {htonl(INADDR_LOOPBACK)}};
        CALL(setsockopt(any, IPPROTO_IP, IP_DROP_MEMBERSHIP, &leave, sizeof(leave)));
        from.imr_multiaddr.s_addr = inet_addr(groups[0]);
        CALL(setsockopt(one, IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP, &from, sizeof(from)));
        CALL(setsockopt(six, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &wide, sizeof(wide)));
        CHECK(setsockopt(six, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &wide, sizeof(wide)) == -1);
        hears(any, 0, 0);
        hears(one, 0, 0);
        pass();
}
