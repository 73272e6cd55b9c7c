/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#ifndef __NR_io_uring_register
#define __NR_io_uring_register 427
#endif

/* IORING_REGISTER_PBUF_STATUS and its argument, newer than Debian 12's headers. */
#define PBUF_STATUS 26
struct status {
        uint32_t group;
        uint32_t head;
        uint32_t resv[8];
};

long ckpt_ring_group(int fd, uint32_t nr)
{
        for (uint32_t group = 0; group < nr; group++) {
                struct status status = {.group = group};

                if (!syscall(__NR_io_uring_register, fd, PBUF_STATUS, &status, 1))
                        return group;
                /* Those that were not provided as a ring (IORING_OP_PROVIDE_BUFFERS). */
                if (errno == EINVAL && group)
                        return group;
                if (errno != ENOENT)
                        return -errno;
        }
        return -ENOENT;
}
