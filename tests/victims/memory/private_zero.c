/* Private mappings of /dev/zero, an old way to get memory: written in part, only read, and shared
   with a child until one of both writes. */
#include <sys/wait.h>

#include "victim.h"

static char *map_zero(int zero, int prot)
{
        char *mapped = mmap(NULL, 4 * PAGE, prot, MAP_PRIVATE, zero, 0);

        CHECK(mapped != MAP_FAILED);
        return mapped;
}

static void check_zeros(const char *at, size_t size)
{
        for (size_t i = 0; i < size; i++)
                CHECK(at[i] == 0);
}

int main(void)
{
        int zero = CALL(open("/dev/zero", O_RDWR));
        char *written = map_zero(zero, PROT_READ | PROT_WRITE);
        char *seen = map_zero(zero, PROT_READ);

        close(zero);
        written[PAGE] = 1;
        check_zeros(seen, PAGE);

        int told[2];

        CALL(pipe(told));

        pid_t child = CALL(fork());

        if (child == 0) {
                char byte;

                close(told[1]);
                CALL(read(told[0], &byte, 1));
                _exit(written[PAGE] == 1 && written[2 * PAGE] == 0 ? 0 : 1);
        }
        close(told[0]);
        until_blocked(child);
        ready_and_wait();
        CHECK(written[PAGE] == 1);
        written[PAGE] = 2;
        check_zeros(written, PAGE);
        check_zeros(written + 2 * PAGE, 2 * PAGE);
        check_zeros(seen, 4 * PAGE);
        CALL(madvise(written, 4 * PAGE, MADV_DONTNEED));
        check_zeros(written, 4 * PAGE);
        CHECK(CALL(write(told[1], "w", 1)) == 1);

        int status;

        CHECK(CALL(waitpid(child, &status, 0)) == child && status == 0);
        pass();
}
