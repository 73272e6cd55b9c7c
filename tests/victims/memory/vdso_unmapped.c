// args: vdso
// args: all
// cycles: 2
/* A task without the vdso, as valgrind leaves it, or without all that the kernel maps beside it,
 * and a child of it that has everything: each has what it had. */
#include "victim.h"
#include <sys/socket.h>

static int is_mapped(const char *name)
{
        char line[512];
        int found = 0;
        FILE *maps = fopen("/proc/self/maps", "re");

        CHECK(maps);
        while (fgets(line, sizeof(line), maps))
                found |= strstr(line, name) != NULL;
        fclose(maps);
        return found;
}

/* All mappings whose names begin so. */
static void unmap(const char *name)
{
        char line[512];
        unsigned long start, end;
        FILE *maps = fopen("/proc/self/maps", "re");

        CHECK(maps);
        while (fgets(line, sizeof(line), maps))
                if (strstr(line, name)) {
                        CHECK(sscanf(line, "%lx-%lx", &start, &end) == 2);
                        CALL(syscall(SYS_munmap, start, end - start));
                }
        fclose(maps);
}

static void check(int vdso, int data)
{
        CHECK(is_mapped("[vdso]") == vdso);
        CHECK(is_mapped("[vvar") == data);
}

int main(int argc, char **argv)
{
        int ends[2];

        CHECK(argc == 2);
        int all = !strcmp(argv[1], "all");
        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
        pid_t child = CALL(fork());
        if (!child) {
                close(ends[1]);
                tell(ends[0]);
                hear(ends[0]);
                check(1, 1);
                _exit(0);
        }
        close(ends[0]);
        unmap("[vdso]");
        if (all)
                unmap("[vvar");
        hear(ends[1]);
        ready_and_wait();
        check(0, !all);
        tell(ends[1]);
        int status;
        CHECK(CALL(waitpid(child, &status, 0)) == child && status == 0);
        pass();
}
