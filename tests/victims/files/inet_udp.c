// args: udp
// args: lite
/* Datagram sockets: new, bound, connected, closed halves, groups; their options. */
#include "inet.h"

#define UDPLITE_SEND_CSCOV 10

static void exchange(int from, int to, const char *text)
{
        char seen[16] = "";

        CHECK(send(from, text, strlen(text), 0) == (ssize_t)strlen(text));
        CHECK(recv(to, seen, sizeof(seen), 0) == (ssize_t)strlen(text) && !strcmp(seen, text));
}

int main(UNUSED int argc, char **argv)
{
        int lite = argv[1][0] == 'l', proto = lite ? IPPROTO_UDPLITE : IPPROTO_UDP;
        int fresh = CALL(socket(AF_INET, SOCK_DGRAM, proto));
        int pair[2][2], group[2], half, port[2][2], family[2] = {AF_INET, AF_INET6};
        struct in_addr outgoing = {htonl(INADDR_LOOPBACK)}, asked;
        socklen_t size = sizeof(asked);
        char byte;

        for (int i = 0; i < 2; i++) {
                for (int k = 0; k < 2; k++) {
                        pair[i][k] = CALL(socket(family[i], SOCK_DGRAM, proto));
                        if (i)
                                set(pair[i][k], IPPROTO_IPV6, IPV6_V6ONLY, 1);
                        bind_local(pair[i][k], family[i], 0);
                        port[i][k] = port_of(pair[i][k]);
                }
                connect_local(pair[i][0], family[i], port[i][1]);
                connect_local(pair[i][1], family[i], port[i][0]);
        }
        half = CALL(socket(AF_INET, SOCK_DGRAM, proto));
        connect_local(half, AF_INET, port[0][0]);
        CALL(shutdown(half, SHUT_WR));
        for (int i = 0; i < 2; i++) {
                group[i] = CALL(socket(AF_INET, SOCK_DGRAM, proto));
                set(group[i], SOL_SOCKET, SO_REUSEADDR, 1);
                bind_local(group[i], AF_INET, i ? port_of(group[0]) : 0);
        }
        set(fresh, SOL_SOCKET, SO_BROADCAST, 1);
        set(fresh, SOL_SOCKET, SO_TIMESTAMPNS, 1);
        set(fresh, SOL_SOCKET, SO_SNDBUF, 40000);
        set(fresh, IPPROTO_IP, IP_PKTINFO, 1);
        set(fresh, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
        set(fresh, IPPROTO_IP, IP_RECVERR, 1);
        set(fresh, IPPROTO_IP, IP_MULTICAST_TTL, 12);
        set(fresh, IPPROTO_IP, IP_MULTICAST_LOOP, 0);
        CALL(setsockopt(fresh, IPPROTO_IP, IP_MULTICAST_IF, &outgoing, sizeof(outgoing)));
        set(pair[1][0], IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
        set(pair[1][0], IPPROTO_IPV6, IPV6_DONTFRAG, 1);
        if (lite)
                set(fresh, IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV, 20);
        else
                set(fresh, SOL_UDP, UDP_SEGMENT, 1200);
        for (int i = 0; i < 2; i++)
                exchange(pair[i][0], pair[i][1], "before");

        ready_and_wait();
        for (int i = 0; i < 2; i++) {
                CHECK(port_of(pair[i][0]) == port[i][0] && port_of(pair[i][1]) == port[i][1]);
                exchange(pair[i][0], pair[i][1], "to");
                exchange(pair[i][1], pair[i][0], "fro");
        }
        CHECK(send(half, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
        CHECK(recv(half, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
        CHECK(port_of(group[0]) == port_of(group[1]));
        CHECK(get(group[1], SOL_SOCKET, SO_REUSEADDR) == 1);
        CHECK(get(pair[0][0], SOL_SOCKET, SO_REUSEADDR) == 0);
        CHECK(port_of(fresh) == 0);
        CHECK(get(fresh, SOL_SOCKET, SO_BROADCAST) == 1);
        CHECK(get(fresh, SOL_SOCKET, SO_TIMESTAMPNS) == 1);
        CHECK(get(fresh, SOL_SOCKET, SO_SNDBUF) == 80000);
        CHECK(get(fresh, IPPROTO_IP, IP_PKTINFO) == 1);
        CHECK(get(fresh, IPPROTO_IP, IP_MTU_DISCOVER) == IP_PMTUDISC_PROBE);
        CHECK(get(fresh, IPPROTO_IP, IP_RECVERR) == 1);
        CHECK(get(fresh, IPPROTO_IP, IP_MULTICAST_TTL) == 12);
        CHECK(get(fresh, IPPROTO_IP, IP_MULTICAST_LOOP) == 0);
        CALL(getsockopt(fresh, IPPROTO_IP, IP_MULTICAST_IF, &asked, &size));
        CHECK(asked.s_addr == outgoing.s_addr);
        CHECK(get(pair[1][0], IPPROTO_IPV6, IPV6_RECVPKTINFO) == 1);
        CHECK(get(pair[1][0], IPPROTO_IPV6, IPV6_DONTFRAG) == 1);
        if (lite)
                CHECK(get(fresh, IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV) == 20);
        else
                CHECK(get(fresh, SOL_UDP, UDP_SEGMENT) == 1200);
        pass();
}
