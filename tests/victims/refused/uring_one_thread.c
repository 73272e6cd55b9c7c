// refused: io_uring SINGLE_ISSUER
// unseen: io_uring SINGLE_ISSUER
/* A ring that only one thread may use. */
#include "victim.h"
#include <linux/io_uring.h>

static int ring(unsigned flags)
{
        struct io_uring_params params = {.flags = flags};

        return (int)CALL(syscall(SYS_io_uring_setup, 8, &params));
}

int main(void)
{
        ring(IORING_SETUP_SINGLE_ISSUER);
        ready_and_wait();
        pass();
}
