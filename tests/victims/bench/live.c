// args: 16 small
/* live MIB small|huge|shared: writes a hundredth of its pages a second, at random, and looks at the
 * clock all the time. "shared": a child has mapped them, too, and has touched every second one. A
 * file is its panel: word 0, the longest time between two looks in ns; word 1, set to 1, has it
 * fork(2) once, and is set to 0 then; word 2, how long that took in ns. */
#include "victim.h"

#include <string.h>
#include <sys/mman.h>

static uint64_t now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static void fork_once(volatile uint64_t *panel)
{
        uint64_t begun = now_ns();
        pid_t pid = CALL(fork());

        if (!pid)
                _exit(0);
        panel[2] = now_ns() - begun;
        CALL(waitpid(pid, NULL, 0));
        panel[1] = 0;
}

/* Memory that is visibly younger than this process, see live/bank.c. */
static unsigned char *shared(size_t size)
{
        uint64_t begun = now_ns();
        unsigned char *memory;

        while (now_ns() < begun + 20000000)
                ;
        memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(memory != MAP_FAILED);
        return memory;
}

static void share(unsigned char *memory, size_t pages)
{
        pid_t parent = getpid(), pid = CALL(fork());

        if (pid)
                return;
        CALL(prctl(PR_SET_PDEATHSIG, SIGKILL));
        CHECK(getppid() == parent);
        for (size_t i = 0; i < pages; i += 2)
                memory[i * 4096 + 16]++;
        ready();
        for (;;)
                pause();
}

int main(int argc, char **argv)
{
        size_t size = strtoul(argv[1], NULL, 10) << 20, pages = size / 4096;
        int huge = argc > 2 && !strcmp(argv[2], "huge");
        size_t align = 2UL << 20;
        int shares = argc > 2 && !strcmp(argv[2], "shared");
        unsigned char *memory = shares ? shared(size + align) : anonymous(size + align);
        uint64_t last, next, step = 100ULL * 1000000000ULL / pages, state = 1;
        int fd = CALL(open(in_folder("panel"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        volatile uint64_t *panel;

        memory += align - (uintptr_t)memory % align;
        CALL(madvise(memory, size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE));
        CALL(ftruncate(fd, 4096));
        panel = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(panel != MAP_FAILED);
        close(fd);
        for (size_t i = 0; i < pages; i++)
                *(uint64_t *)(memory + i * 4096) = pattern(1, i);
        if (shares)
                share(memory, pages);
        else
                ready();
        last = next = now_ns();
        for (;;) {
                uint64_t now = now_ns();

                if (now - last > panel[0])
                        panel[0] = now - last;
                if (panel[1])
                        fork_once(panel);
                if (now >= next) {
                        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
                        memory[(state >> 20) % pages * 4096 + 8]++;
                        next += step;
                }
                last = now;
        }
}
