// refused: io_uring
/* A submission ring. */
#include "victim.h"
#include <linux/io_uring.h>

int main(void)
{
        struct io_uring_params params = {0};

        CALL(syscall(SYS_io_uring_setup, 8, &params));
        ready_and_wait();
        pass();
}
