// args: 4 small
/* As many MiB of private anonymous memory as the first argument says, in pages of the kind that the
 * second says, and how long it takes this process to fork, in nanoseconds, in the file `took`. */
#include "victim.h"

enum { REPEATS = 5 };

static int64_t now(void)
{
        struct timespec time;

        CALL(clock_gettime(CLOCK_MONOTONIC, &time));
        return time.tv_sec * 1000000000L + time.tv_nsec;
}

static int64_t time_to_fork(void)
{
        int64_t before = now(), took;
        pid_t child = CALL(fork());

        if (!child)
                _exit(0);
        took = now() - before;
        CALL(waitpid(child, NULL, 0));
        return took;
}

int main(UNUSED int argc, char **argv)
{
        size_t size = strtoul(argv[1], NULL, 10) << 20;
        char *memory = anonymous(size);
        int64_t least = INT64_MAX;
        char line[32];
        int fd;

        CALL(madvise(memory, size, strcmp(argv[2], "huge") ? MADV_NOHUGEPAGE : MADV_HUGEPAGE));
        for (size_t at = 0; at < size; at += PAGE)
                memory[at] = (char)(at >> 12) | 1;
        for (int i = 0; i < REPEATS; i++) {
                int64_t took = time_to_fork();

                least = took < least ? took : least;
        }
        fd = CALL(open(in_folder("took"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        CHECK(write(fd, line, (size_t)snprintf(line, sizeof(line), "%ld\n", least)) > 0);
        close(fd);
        ready_and_wait();
        pass();
}
