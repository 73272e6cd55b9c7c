// refused: io_uring 1052672 submissions
// unseen: io_uring 1052672 submissions
/* A ring that has taken more submissions than a restore makes up for. */
#include "victim.h"
#include <linux/io_uring.h>

#define ENTRIES 4096u

int main(void)
{
        struct io_uring_params params = {0};
        int fd = (int)CALL(syscall(SYS_io_uring_setup, ENTRIES, &params));
        size_t size = params.sq_off.array + ENTRIES * sizeof(unsigned);
        char *rings = CALL(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));

        for (unsigned round = 1; round <= 257; round++) {
                *(unsigned *)(rings + params.sq_off.tail) = round * ENTRIES;
                CHECK(CALL(syscall(SYS_io_uring_enter, fd, ENTRIES, 0, 0, NULL, 0)) == ENTRIES);
                *(unsigned *)(rings + params.cq_off.head) = round * ENTRIES;
        }
        ready_and_wait();
        pass();
}
