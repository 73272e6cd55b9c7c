// refused: io_uring eventfd
// unseen: io_uring eventfd
/* A ring that tells an eventfd of completions. */
#include "victim.h"
#include <linux/io_uring.h>
#include <sys/eventfd.h>

static int ring(unsigned flags)
{
        struct io_uring_params params = {.flags = flags};

        return (int)CALL(syscall(SYS_io_uring_setup, 8, &params));
}

int main(void)
{
        int fd = ring(0), event = CALL(eventfd(0, 0));

        CALL(syscall(SYS_io_uring_register, fd, IORING_REGISTER_EVENTFD, &event, 1));
        ready_and_wait();
        pass();
}
