// args: 16
/* Looks at the clock all the time and keeps the longest time between two looks, in nanoseconds, in
 * the first word of a file; who writes 0 there starts anew. Touches one of its MiB now and then. */
#include "victim.h"

static uint64_t now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

int main(UNUSED int argc, char **argv)
{
        size_t size = strtoul(argv[1], NULL, 10) << 20;
        unsigned char *memory = anonymous(size);
        int fd = CALL(open(in_folder("gap"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        volatile uint64_t *longest;
        uint64_t last;

        CALL(ftruncate(fd, PAGE));
        longest = CALL(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
        close(fd);
        fill(memory, size, 1);
        ready();
        last = now_ns();
        for (size_t page = 0;; page = (page + 7919) % (size / PAGE)) {
                for (int i = 0; i < 1000; i++) {
                        uint64_t now = now_ns();

                        if (now - last > *longest)
                                *longest = now - last;
                        last = now;
                }
                memory[page * PAGE]++;
        }
}
