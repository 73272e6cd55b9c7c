// args: 4 2
/* As many MiB of private anonymous memory as the first argument says. After "go" it reads one page
 * of every 128 KiB of as many of them as the second says, in no order, and tells in the file
 * `latencies` how long each took, in nanoseconds as uint64_t. It stays until "end", where
 * there is such a FIFO, and then checks all of its memory. */
#include "victim.h"

enum { STRIDE = 32, STEP = 7919 };

static uint64_t now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int main(UNUSED int argc, char **argv)
{
        size_t size = strtoul(argv[1], NULL, 10) << 20;
        size_t nr = (strtoul(argv[2], NULL, 10) << 20) / (STRIDE * PAGE);
        uint64_t *took = anonymous(nr * sizeof(*took));
        char *memory = anonymous(size);
        int fd;

        fill(memory, size, 1);
        memset(took, 1, nr * sizeof(*took));
        ready_and_wait();
        memset(took, 0, nr * sizeof(*took));
        for (size_t i = 0; i < nr; i++) {
                size_t at = (i * STEP % nr * STRIDE + STRIDE / 2) * PAGE;
                uint64_t before = now_ns(), found = *(volatile uint64_t *)(memory + at);

                took[i] = now_ns() - before;
                CHECK(found == pattern(1, at / 8));
        }
        fd = CALL(open(in_folder("latencies"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
        CHECK(write(fd, took, nr * sizeof(*took)) == (ssize_t)(nr * sizeof(*took)));
        close(fd);
        ready();
        if (access(in_folder("end"), F_OK) == 0)
                wait_for("end");
        CHECK(filled(memory, size, 1));
        pass();
}
