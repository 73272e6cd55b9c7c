// A ring with a registered buffer, known to its thread by a registered number alone: there is
// neither a mapping nor a descriptor of it.
#include "victim.h"

#include <linux/io_uring.h>
#include <sys/uio.h>

int main(void)
{
        struct io_uring_params params = {0};
        struct iovec buffer = {.iov_base = anonymous(4 * PAGE), .iov_len = 4 * PAGE};
        int fd = (int)CALL(syscall(SYS_io_uring_setup, 8, &params));
        struct io_uring_rsrc_update update = {.offset = -1U, .data = (unsigned)fd};

        CALL(syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &buffer, 1));
        CHECK(CALL(syscall(SYS_io_uring_register, fd, IORING_REGISTER_RING_FDS, &update, 1)) == 1);
        close(fd);
        ready_and_wait();
        pass();
}
