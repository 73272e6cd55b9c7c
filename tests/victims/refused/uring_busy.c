// refused: io_uring wait
// unseen: io_uring wait
/* A ring with a request that waits for an event. */
#include "victim.h"
#include <linux/io_uring.h>

int main(void)
{
        struct io_uring_params params = {0};
        int fd = (int)CALL(syscall(SYS_io_uring_setup, 8, &params)), ends[2];
        char *rings = CALL(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
        struct io_uring_sqe *sqe =
            CALL(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQES));

        CALL(pipe(ends));
        sqe->opcode = IORING_OP_POLL_ADD;
        sqe->fd = ends[0];
        sqe->poll32_events = 1;
        *(unsigned *)(rings + params.sq_off.tail) = 1;
        CHECK(CALL(syscall(SYS_io_uring_enter, fd, 1, 0, 0, NULL, 0)) == 1);
        ready_and_wait();
        pass();
}
