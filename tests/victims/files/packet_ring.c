// needs: cap_net_raw cap_net_admin
// cycles: 2
/* Packet sockets with rings, of all three versions: new, in the middle of their first round, gone
 * round, full, and mapped by two processes. What waits is read where it was, then what comes next
 * in the slot behind it. */
#include "inet.h"
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>

#define NR_SLOTS 8U
#define BLOCK    8192U
#define FRAME    2048U

struct ring {
        int fd, version;
        unsigned char *memory;
        unsigned next;  /* slot, ours */
        int sent, seen; /* packets, by number */
};

static int udp, port;

static unsigned char *slot(const struct ring *ring, unsigned number)
{
        return ring->memory + (size_t)number * (ring->version == TPACKET_V3 ? BLOCK : FRAME);
}

static volatile uint32_t *status(const struct ring *ring, unsigned number)
{
        return (uint32_t *)(slot(ring, number) + (ring->version == TPACKET_V3 ? 8 : 0));
}

static void made(struct ring *ring, int version)
{
        struct sock_filter code[] = {
            {BPF_LD | BPF_B | BPF_ABS, 0, 0, 9},  {BPF_JMP | BPF_JEQ | BPF_K, 0, 3, IPPROTO_UDP},
            {BPF_LD | BPF_H | BPF_ABS, 0, 0, 22}, {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, (uint32_t)port},
            {BPF_RET | BPF_K, 0, 0, 0xffff},      {BPF_RET | BPF_K, 0, 0, 0},
        };
        struct sock_fprog program = {6, code};
        struct sockaddr_ll name = {.sll_family = AF_PACKET,
                                   .sll_protocol = htons(ETH_P_IP),
                                   .sll_ifindex = (int)if_nametoindex("lo")};
        unsigned nr_blocks = version == TPACKET_V3 ? NR_SLOTS : NR_SLOTS * FRAME / BLOCK;
        struct tpacket_req3 sizes = {.tp_block_size = BLOCK,
                                     .tp_block_nr = nr_blocks,
                                     .tp_frame_size = FRAME,
                                     .tp_frame_nr = nr_blocks * (BLOCK / FRAME),
                                     .tp_retire_blk_tov = 1};

        *ring = (struct ring){.fd = CALL(socket(AF_PACKET, SOCK_DGRAM, 0)), .version = version};
        set(ring->fd, SOL_PACKET, PACKET_VERSION, version);
        CALL(setsockopt(ring->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)));
        CALL(setsockopt(ring->fd, SOL_PACKET, PACKET_RX_RING, &sizes,
                        version == TPACKET_V3 ? sizeof(sizes) : sizeof(struct tpacket_req)));
        ring->memory = CALL(
            mmap(NULL, (size_t)nr_blocks * BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0));
        CALL(bind(ring->fd, (struct sockaddr *)&name, sizeof(name)));
}

/* The number in the packet that is in a slot. */
static int number_in(const struct ring *ring, unsigned number)
{
        const unsigned char *at = slot(ring, number);
        uint16_t net;

        if (ring->version == TPACKET_V3) {
                struct tpacket_block_desc *block = (struct tpacket_block_desc *)at;

                CHECK(block->hdr.bh1.num_pkts == 1);
                at += block->hdr.bh1.offset_to_first_pkt;
                net = ((const struct tpacket3_hdr *)at)->tp_net;
        } else if (ring->version == TPACKET_V2) {
                net = ((const struct tpacket2_hdr *)at)->tp_net;
        } else {
                net = ((const struct tpacket_hdr *)at)->tp_net;
        }
        return atoi((const char *)at + net + 28);
}

static void await(const struct ring *ring, unsigned number)
{
        struct pollfd wait = {ring->fd, POLLIN, 0};

        while (!(*status(ring, number) & TP_STATUS_USER))
                CALL(poll(&wait, 1, 100));
}

/* Send so many, and wait until each is in all of these rings, which it has to fit into. */
static void send_to(struct ring *rings, int nr, int packets)
{
        union any to;
        char text[16];

        for (int i = 0; i < packets; i++) {
                int number = ++rings[0].sent;

                snprintf(text, sizeof(text), "%d", number);
                CALL(sendto(udp, text, sizeof(text), 0, &to.all, local(&to, AF_INET, port)));
                for (int k = 0; k < nr; k++) {
                        unsigned before = (unsigned)(number - rings[k].seen - 1);

                        rings[k].sent = number;
                        await(&rings[k], (rings[k].next + before) % NR_SLOTS);
                }
                CHECK(recv(udp, text, sizeof(text), 0) == sizeof(text));
        }
}

/* Read so many, in their order. */
static void take(struct ring *ring, int packets)
{
        for (int i = 0; i < packets; i++) {
                await(ring, ring->next);
                CHECK(number_in(ring, ring->next) == ++ring->seen);
                __sync_synchronize();
                *status(ring, ring->next) = TP_STATUS_KERNEL;
                ring->next = (ring->next + 1) % NR_SLOTS;
        }
}

static void empty(const struct ring *ring)
{
        for (unsigned i = 0; i < NR_SLOTS; i++)
                CHECK(!(*status(ring, i) & TP_STATUS_USER));
}

int main(void)
{
        static struct ring idle[3], rings[3], full[3];
        int everywhere = CALL(socket(AF_PACKET, SOCK_DGRAM, htons(0x88b6))), told[2], back[2];
        struct sockaddr_ll name;
        socklen_t size = sizeof(name);

        udp = CALL(socket(AF_INET, SOCK_DGRAM, 0));
        bind_local(udp, AF_INET, 0);
        port = port_of(udp);
        for (int version = TPACKET_V1; version <= TPACKET_V3; version++)
                made(&rings[version], version), made(&full[version], version);
        /* One round and a bit, two wait; at the second cycle it is elsewhere. */
        for (int i = 0; i < 11; i++) {
                send_to(rings, 3, 1);
                for (int k = 0; k < 3; k++) {
                        take(&rings[k], 1);
                        if (i < 3)
                                take(&full[k], 1);
                        else
                                await(&full[k], (unsigned)i % NR_SLOTS);
                }
        }
        send_to(rings, 3, 2);
        for (int k = 0; k < 3; k++)
                made(&idle[k], k);
        CALL(pipe(told));
        CALL(pipe(back));
        pid_t child = CALL(fork());
        if (!child) {
                char byte;

                close(told[1]);
                CHECK(write(back[1], "", 1) == 1);
                CHECK(read(told[0], &byte, 1) == 1);
                for (int k = 0; k < 3; k++)
                        CHECK(number_in(&rings[k], rings[k].next) == byte);
                _exit(0);
        }
        char settled;
        CHECK(read(back[0], &settled, 1) == 1);

        ready_and_wait();
        CALL(getsockname(everywhere, (struct sockaddr *)&name, &size));
        CHECK(name.sll_protocol == htons(0x88b6) && name.sll_ifindex == 0);
        for (int k = 0; k < 3; k++) {
                empty(&idle[k]);
                take(&rings[k], 1);
        }
        send_to(rings, 3, 7);
        /* They are full, and the child sees the newest. */
        char newest = (char)rings[0].sent;
        CHECK(write(told[1], &newest, 1) == 1);
        int ended;
        CHECK(CALL(waitpid(child, &ended, 0)) == child && ended == 0);
        for (int k = 0; k < 3; k++) {
                take(&rings[k], 8);
                empty(&rings[k]);
                take(&full[k], 8);
                empty(&full[k]);
                full[k].seen = rings[k].sent;
        }
        for (int i = 0; i < 20; i++) {
                send_to(rings, 3, 1);
                for (int k = 0; k < 3; k++)
                        take(&rings[k], 1), take(&full[k], 1);
        }
        pass();
}
