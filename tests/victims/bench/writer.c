// args: 16
/* Writes to its memory when it is told, and says in nanoseconds how long that took: one line in,
 * one line out. ORDER STEP: one word in each STEP-th page, `up` or `about` (each page once, far
 * from the last). `guard` first takes its own write permission, which a handler of SIGSEGV gives
 * back page by page: what tracking costs without the kernel's help. */
#include "victim.h"

static char *memory;
static size_t nr_pages;
static volatile size_t nr_noted;

static void on_fault(UNUSED int signal, siginfo_t *info, UNUSED void *context)
{
        nr_noted++;
        if (mprotect((void *)((uintptr_t)info->si_addr & -PAGE), PAGE, PROT_READ | PROT_WRITE))
                _exit(4);
}

static long write_pages(const char *order, size_t step)
{
        const size_t nr = nr_pages / step, stride = *order == 'u' ? 1 : 0x9E3779B1UL | 1;
        struct timespec began, ended;

        CALL(clock_gettime(CLOCK_MONOTONIC, &began));
        for (size_t i = 0, at = 0; i < nr; i++, at = (at + stride) % nr)
                ++*(volatile uint64_t *)(memory + at * step * PAGE);
        CALL(clock_gettime(CLOCK_MONOTONIC, &ended));
        return (ended.tv_sec - began.tv_sec) * 1000000000L + ended.tv_nsec - began.tv_nsec;
}

int main(UNUSED int argc, char **argv)
{
        struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
        char line[64], order[16];
        size_t step;

        nr_pages = strtoul(argv[1], NULL, 10) << 8;
        memory = anonymous(nr_pages * PAGE);
        CALL(madvise(memory, nr_pages * PAGE, MADV_NOHUGEPAGE));
        fill(memory, nr_pages * PAGE, 1);
        CALL(sigaction(SIGSEGV, &action, NULL));
        say("%lx\n", (uintptr_t)memory);
        for (;;) {
                ssize_t length = CALL(read(0, line, sizeof(line) - 1));

                if (length == 0)
                        pass();
                line[length] = 0;
                if (sscanf(line, "%15s %zu", order, &step) == 2)
                        say("%ld\n", write_pages(order, step));
                else
                        say("%d\n", CALL(mprotect(memory, nr_pages * PAGE, PROT_READ)));
        }
}
