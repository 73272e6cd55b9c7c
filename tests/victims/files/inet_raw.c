// needs: cap_net_raw
/* Raw sockets of IPv4 and IPv6: new, bound, connected, with filters and headers of their own; one
 * asks for an echo before and after, one sees datagrams that are sent after. */
#include "inet.h"
#include <linux/icmp.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>

static unsigned short checksum(const unsigned short *words, int nr)
{
        unsigned sum = 0;

        while (nr--)
                sum += *words++;
        return (unsigned short)~((sum & 0xffff) + (sum >> 16));
}

/* Until our own answer comes: the loopback shows whatever else is asked for as well. */
static void echo(int fd, int sequence)
{
        struct icmphdr query = {.type = ICMP_ECHO}, answer;
        char packet[128];

        query.un.echo.id = htons(getpid() & 0xffff);
        query.un.echo.sequence = htons(sequence);
        query.checksum = checksum((void *)&query, sizeof(query) / 2);
        CHECK(CALL(send(fd, &query, sizeof(query), 0)) == sizeof(query));
        do {
                CHECK(CALL(recv(fd, packet, sizeof(packet), 0)) >= 28);
                memcpy(&answer, packet + 20, sizeof(answer));
                CHECK(answer.type == ICMP_ECHOREPLY);
        } while (answer.un.echo.id != query.un.echo.id ||
                 answer.un.echo.sequence != query.un.echo.sequence);
}

/* Until what another socket sends comes by, of all the datagrams of this machine. */
static void overhear(int fd, int sender, const union any *to)
{
        char packet[65536];
        ssize_t length;

        while (recv(fd, packet, sizeof(packet), MSG_DONTWAIT) >= 0)
                ; // what has filled its queue
        CHECK(CALL(sendto(sender, "overheard", 9, 0, &to->all, sizeof(to->four))) == 9);
        do {
                length = CALL(recv(fd, packet, sizeof(packet), 0));
        } while (length != 20 + 8 + 9 || memcmp(packet + 28, "overheard", 9));
}

int main(void)
{
        struct icmp_filter only = {~(1u << ICMP_ECHOREPLY)}, seen;
        struct icmp6_filter none, six_seen;
        int fresh = CALL(socket(AF_INET, SOCK_RAW, 200));
        int headers = CALL(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
        int ping = CALL(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
        int six = CALL(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
        int sums = CALL(socket(AF_INET6, SOCK_RAW, 201));
        int datagrams = CALL(socket(AF_INET, SOCK_RAW, IPPROTO_UDP));
        int segments = CALL(socket(AF_INET6, SOCK_RAW, IPPROTO_TCP));
        int sender = CALL(socket(AF_INET, SOCK_DGRAM, 0));
        union any name, there;
        socklen_t size = sizeof(seen);

        CALL(setsockopt(ping, SOL_RAW, ICMP_FILTER, &only, sizeof(only)));
        CALL(bind(ping, &name.all, local(&name, AF_INET, 0)));
        CALL(connect(ping, &name.all, local(&name, AF_INET, 0)));
        ICMP6_FILTER_SETBLOCKALL(&none);
        CALL(setsockopt(six, IPPROTO_ICMPV6, ICMP6_FILTER, &none, sizeof(none)));
        CALL(bind(six, &name.all, local(&name, AF_INET6, 0)));
        set(sums, IPPROTO_IPV6, IPV6_CHECKSUM, 6);
        set(fresh, IPPROTO_IP, IP_HDRINCL, 1);
        set(fresh, IPPROTO_IP, IP_TTL, 33);
        set(segments, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 44);
        CALL(bind(sender, &there.all, local(&there, AF_INET, 0)));
        size = sizeof(there);
        CALL(getsockname(sender, &there.all, &size));
        CALL(bind(datagrams, &name.all, local(&name, AF_INET, 0)));
        echo(ping, 1);

        ready_and_wait();
        CHECK(get(fresh, SOL_SOCKET, SO_PROTOCOL) == 200);
        CHECK(get(fresh, IPPROTO_IP, IP_HDRINCL) == 1 && get(fresh, IPPROTO_IP, IP_TTL) == 33);
        CHECK(get(headers, IPPROTO_IP, IP_HDRINCL) == 1);
        CALL(getsockopt(ping, SOL_RAW, ICMP_FILTER, &seen, &size));
        CHECK(seen.data == only.data);
        size = sizeof(six_seen);
        CALL(getsockopt(six, IPPROTO_ICMPV6, ICMP6_FILTER, &six_seen, &size));
        CHECK(!memcmp(&six_seen, &none, sizeof(none)));
        size = sizeof(name);
        CALL(getsockname(six, &name.all, &size));
        CHECK(IN6_IS_ADDR_LOOPBACK(&name.six.sin6_addr));
        CHECK(get(sums, IPPROTO_IPV6, IPV6_CHECKSUM) == 6);
        CHECK(get(segments, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP);
        CHECK(get(segments, IPPROTO_IPV6, IPV6_UNICAST_HOPS) == 44);
        overhear(datagrams, sender, &there);
        echo(ping, 2);
        pass();
}
