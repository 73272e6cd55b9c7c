/* Sockets of ping of IPv4 and IPv6: new, bound to an identifier, connected; one asks for an echo.
 */
#include "inet.h"
#include <linux/icmp.h>

static const int families[] = {AF_INET, AF_INET6};

static void echo(int fd, int family, int id)
{
        struct icmphdr query = {.type = family == AF_INET ? ICMP_ECHO : 128}, answer;

        query.un.echo.sequence = htons(7);
        CHECK(CALL(send(fd, &query, sizeof(query), 0)) == sizeof(query));
        CHECK(CALL(recv(fd, &answer, sizeof(answer), 0)) == sizeof(answer));
        CHECK(answer.type == (family == AF_INET ? ICMP_ECHOREPLY : 129));
        CHECK(ntohs(answer.un.echo.id) == id && answer.un.echo.sequence == htons(7));
}

int main(void)
{
        int fresh = CALL(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)), bound[2], id[2];

        for (int i = 0; i < 2; i++) {
                int proto = i ? IPPROTO_ICMPV6 : IPPROTO_ICMP;

                bound[i] = CALL(socket(families[i], SOCK_DGRAM, proto));
                bind_local(bound[i], families[i], 0);
                connect_local(bound[i], families[i], 0);
                id[i] = port_of(bound[i]);
                echo(bound[i], families[i], id[i]);
        }
        set(fresh, IPPROTO_IP, IP_TTL, 9);

        ready_and_wait();
        CHECK(get(fresh, IPPROTO_IP, IP_TTL) == 9 && port_of(fresh) == 0);
        CHECK(get(fresh, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_ICMP);
        for (int i = 0; i < 2; i++) {
                CHECK(port_of(bound[i]) == id[i]);
                echo(bound[i], families[i], id[i]);
        }
        pass();
}
