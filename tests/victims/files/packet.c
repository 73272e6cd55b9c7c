// needs: cap_net_raw cap_net_admin
/* Packet sockets: new, bound to loopback, with a filter and members, in a fanout group; one sees
 * what is sent before and after. */
#include "inet.h"
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>

#define FANOUT 18

static struct sock_filter for_port[] = {
    {BPF_LD | BPF_B | BPF_ABS, 0, 0, 9}, /* a datagram, */
    {BPF_JMP | BPF_JEQ | BPF_K, 0, 3, IPPROTO_UDP},
    {BPF_LD | BPF_H | BPF_ABS, 0, 0, 22}, /* its port behind 20 bytes of IPv4 */
    {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0},
    {BPF_RET | BPF_K, 0, 0, 0xffff},
    {BPF_RET | BPF_K, 0, 0, 0},
};

static int made(int type, int protocol)
{
        struct sockaddr_ll name = {.sll_family = AF_PACKET,
                                   .sll_protocol = htons(protocol),
                                   .sll_ifindex = (int)if_nametoindex("lo")};
        int fd = CALL(socket(AF_PACKET, type, 0));

        CALL(bind(fd, (struct sockaddr *)&name, sizeof(name)));
        return fd;
}

static struct sockaddr_ll name_of(int fd)
{
        struct sockaddr_ll name = {0};
        socklen_t size = sizeof(name);

        CALL(getsockname(fd, (struct sockaddr *)&name, &size));
        return name;
}

static void seen(int fd, int sender, int port)
{
        union any to;
        char packet[128];

        CALL(sendto(sender, "hello", 6, 0, &to.all, local(&to, AF_INET, port)));
        CHECK(CALL(recv(fd, packet, sizeof(packet), 0)) == 34 && !strcmp(packet + 28, "hello"));
}

/* Whether loopback takes frames to this address of a group. */
static int listens(const char *address)
{
        FILE *list = fopen("/proc/net/dev_mcast", "re");
        char line[256];
        int found = 0;

        CHECK(list != NULL);
        while (fgets(line, sizeof(line), list))
                found |= strstr(line, " lo ") && strstr(line, address);
        fclose(list);
        return found;
}

int main(void)
{
        struct sock_fprog program = {6, for_port};
        int fresh = CALL(socket(AF_PACKET, SOCK_RAW, 0)), lo = (int)if_nametoindex("lo");
        int udp = CALL(socket(AF_INET, SOCK_DGRAM, 0)), watching, member, spread[2];
        struct packet_mreq all = {.mr_ifindex = lo, .mr_type = PACKET_MR_ALLMULTI};
        unsigned group = (unsigned)getpid() & 0xffff;
        struct packet_mreq one = {lo, PACKET_MR_MULTICAST, 6, {1, 0, 94, 1}};
        char address[16];

        one.mr_address[4] = (unsigned char)(group >> 8);
        one.mr_address[5] = (unsigned char)group;
        snprintf(address, sizeof(address), "01005e01%04x", group);

        bind_local(udp, AF_INET, 0);
        for_port[3].k = (unsigned)port_of(udp);
        watching = CALL(socket(AF_PACKET, SOCK_DGRAM, 0));
        CALL(setsockopt(watching, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)));
        set(watching, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
        struct sockaddr_ll name = {AF_PACKET, htons(ETH_P_IP), lo, 0, 0, 0, {0}};
        CALL(bind(watching, (struct sockaddr *)&name, sizeof(name)));
        member = made(SOCK_RAW, 0);
        set(member, SOL_PACKET, PACKET_AUXDATA, 1);
        set(member, SOL_PACKET, PACKET_TIMESTAMP, 2);
        set(member, SOL_PACKET, PACKET_RESERVE, 32);
        set(member, SOL_PACKET, PACKET_VERSION, TPACKET_V2);
        set(member, SOL_PACKET, PACKET_QDISC_BYPASS, 1);
        for (int i = 0; i < 2; i++)
                CALL(setsockopt(member, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &one, sizeof(one)));
        CALL(setsockopt(member, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all)));
        for (int i = 0; i < 2; i++) {
                spread[i] = made(SOCK_DGRAM, ETH_P_ARP);
                set(spread[i], SOL_PACKET, FANOUT, (int)(group | PACKET_FANOUT_LB << 16));
        }
        seen(watching, udp, (int)for_port[3].k);

        ready_and_wait();
        CHECK(name_of(fresh).sll_protocol == 0 && name_of(fresh).sll_ifindex == 0);
        CHECK(name_of(watching).sll_protocol == htons(ETH_P_IP));
        CHECK(name_of(watching).sll_ifindex == lo);
        CHECK(get(watching, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM);
        CHECK(get(watching, SOL_PACKET, PACKET_IGNORE_OUTGOING) == 1);
        seen(watching, udp, (int)for_port[3].k);
        CHECK(get(member, SOL_PACKET, PACKET_AUXDATA) == 1);
        CHECK(get(member, SOL_PACKET, PACKET_TIMESTAMP) == 2);
        CHECK(get(member, SOL_PACKET, PACKET_RESERVE) == 32);
        CHECK(get(member, SOL_PACKET, PACKET_VERSION) == TPACKET_V2);
        CHECK(get(member, SOL_PACKET, PACKET_QDISC_BYPASS) == 1);
        CHECK(listens(address));
        for (int i = 0; i < 2; i++)
                CALL(setsockopt(member, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &one, sizeof(one)));
        CHECK(!listens(address));
        CALL(setsockopt(member, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &all, sizeof(all)));
        for (int i = 0; i < 2; i++)
                CHECK(get(spread[i], SOL_PACKET, FANOUT) == (int)(group | PACKET_FANOUT_LB << 16));
        pass();
}
