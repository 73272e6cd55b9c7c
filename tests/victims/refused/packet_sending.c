// needs: cap_net_raw
// refused: packet PACKET_TX_RING
/* A packet socket with a ring that the kernel sends from. */
#include "victim.h"
#include <linux/if_packet.h>
#include <sys/socket.h>

int main(void)
{
        struct tpacket_req ring = {
            .tp_block_size = 4096, .tp_block_nr = 1, .tp_frame_size = 2048, .tp_frame_nr = 2};
        int fd = CALL(socket(AF_PACKET, SOCK_RAW, 0));

        CALL(setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &ring, sizeof(ring)));
        ready_and_wait();
        pass();
}
