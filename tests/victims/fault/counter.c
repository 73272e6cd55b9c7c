/* Counts in a file that the test reads, computing ("spin") or sleeping ("sleep") in between, until
   there is a file `stop`: who is stopped by a signal must not count. */
#include "victim.h"

int main(int argc, char **argv)
{
        int sleeps = argc > 1 && !strcmp(argv[1], "sleep");
        int fd = CALL(open(in_folder("count"), O_RDWR | O_CREAT, 0600));
        volatile uint64_t *count;

        CALL(ftruncate(fd, PAGE));
        count = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(count != MAP_FAILED);
        close(fd);
        ready();
        while (access(in_folder("stop"), F_OK)) {
                struct timespec moment = {0, 2000000};

                for (int i = 0; i < (sleeps ? 1 : 1000000); i++)
                        ++*count;
                if (sleeps)
                        CALL(nanosleep(&moment, NULL));
        }
        pass();
}
