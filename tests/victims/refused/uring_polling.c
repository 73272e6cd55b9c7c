// refused: io_uring SQPOLL
/* A ring that a thread of the kernel polls. */
#include "victim.h"
#include <linux/io_uring.h>

int main(void)
{
        struct io_uring_params params = {.flags = IORING_SETUP_SQPOLL, .sq_thread_idle = 1};

        CALL(syscall(SYS_io_uring_setup, 8, &params));
        ready_and_wait();
        pass();
}
