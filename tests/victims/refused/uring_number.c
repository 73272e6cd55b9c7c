// args: leader
// args: thread
// refused: registered io_uring
// unseen: registered io_uring
/* A thread that has registered the descriptor of a ring, and uses it by another number. */
#include "victim.h"
#include <linux/io_uring.h>

static int ring(unsigned flags)
{
        struct io_uring_params params = {.flags = flags};

        return (int)CALL(syscall(SYS_io_uring_setup, 8, &params));
}

static int told[2];

static void register_ring(int fd)
{
        struct io_uring_rsrc_update update = {.offset = -1u, .data = (uint64_t)fd};

        CHECK(CALL(syscall(SYS_io_uring_register, fd, 20, &update, 1)) == 1);
}

static void *register_and_wait(void *fd)
{
        register_ring(*(int *)fd);
        tell(told[1]);
        wait_for("go");
        return NULL;
}

int main(UNUSED int argc, char **argv)
{
        int fd = ring(0);

        CALL(pipe(told));
        if (argv[1][0] == 'l') {
                register_ring(fd);
        } else {
                started_thread(register_and_wait, &fd);
                hear(told[0]);
        }
        ready_and_wait();
        pass();
}
