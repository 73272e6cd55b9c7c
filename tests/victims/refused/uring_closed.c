// refused: mapping io_uring "nobody in the tree"
// unseen: mapping io_uring "nobody in the tree"
/* A ring that is mapped, but has no descriptor any more. */
#include "victim.h"
#include <linux/io_uring.h>

int main(void)
{
        struct io_uring_params params = {0};
        int fd = (int)CALL(syscall(SYS_io_uring_setup, 8, &params));

        CALL(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING));
        close(fd);
        ready_and_wait();
        pass();
}
