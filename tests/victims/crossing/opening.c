/* A worker of io_uring waits for the other end of a FIFO. A tracer that interrupts it would have
 * the request fail, for nobody makes the call again. */
#include "ring.h"

#include <dirent.h>

/* Whether a worker sleeps. */
static int is_waiting(void)
{
        DIR *threads = opendir("/proc/self/task");
        struct dirent *entry;
        int found = 0;

        CHECK(threads);
        while ((entry = readdir(threads))) {
                char path[64], line[128] = "", state = 0;

                snprintf(path, sizeof(path), "/proc/self/task/%.20s/stat", entry->d_name);
                int fd = open(path, O_RDONLY | O_CLOEXEC);
                if (fd < 0)
                        continue;
                CHECK(read(fd, line, sizeof(line) - 1) > 0);
                close(fd);
                if (strstr(line, "(iou-wrk-") && sscanf(strrchr(line, ')'), ") %c", &state) == 1)
                        found |= state == 'S';
        }
        closedir(threads);
        return found;
}

int main(void)
{
        struct ring r = new_ring();

        CALL(mkfifo(in_folder("fifo"), 0600));
        ring_submit(&r, (struct io_uring_sqe){.opcode = IORING_OP_OPENAT,
                                              .flags = IOSQE_ASYNC,
                                              .fd = AT_FDCWD,
                                              .addr = (uintptr_t)in_folder("fifo"),
                                              .open_flags = O_RDONLY | O_CLOEXEC});
        while (!is_waiting())
                sched_yield();
        ready_and_wait();
        CHECK(!ring_has(&r));
        int end = CALL(open(in_folder("fifo"), O_WRONLY | O_CLOEXEC));
        CHECK(ring_result(&r) >= 0);
        close(end);
        pass();
}
