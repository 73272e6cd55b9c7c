// args: files
// args: buffers
// refused: io_uring registered
/* A ring with files or buffers registered. */
#include "victim.h"
#include <linux/io_uring.h>

static int ring(unsigned flags)
{
        struct io_uring_params params = {.flags = flags};

        return (int)CALL(syscall(SYS_io_uring_setup, 8, &params));
}

int main(UNUSED int argc, char **argv)
{
        int fd = ring(0), none = -1;
        struct iovec part = {anonymous(PAGE), PAGE};

        if (argv[1][0] == 'f')
                CALL(syscall(SYS_io_uring_register, fd, IORING_REGISTER_FILES, &none, 1));
        else
                CALL(syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, &part, 1));
        ready_and_wait();
        pass();
}
