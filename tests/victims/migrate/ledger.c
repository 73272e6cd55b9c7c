/* Two processes that write their memory page by page, and each step first into a file of theirs.
 * A step begins with a look at that file: it must say what the process itself remembers. So a
 * second copy that runs at the same time, and one that goes on from an earlier moment, are found
 * by whoever takes the next step, and there is always a next step. */
#include "victim.h"

#define NR 2048UL

static unsigned char *area;
static volatile int over;
static volatile uint64_t steps;
static int file;

static void step(void)
{
        uint64_t said;

        CHECK(pread(file, &said, 8, 0) == 8);
        if (said != steps) {
                say("step %lu, but the file says %lu\n", (unsigned long)steps, (unsigned long)said);
                CHECK(!"somebody else has taken steps, or some are forgotten");
        }
        said++;
        *(volatile uint64_t *)(area + said * 7 % NR * PAGE + 8) = said;
        CHECK(pwrite(file, &said, 8, 0) == 8);
        steps = said;
}

static void *work(void *unused)
{
        do {
                step();
                CALL(clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = 1000000},
                                     NULL));
        } while (!over);
        return unused;
}

/* Every page is as the last step that wrote it has left it. */
static void verify(void)
{
        uint64_t last[NR] = {0};

        for (uint64_t n = steps > NR ? steps - NR + 1 : 1; n <= steps; n++)
                last[n * 7 % NR] = n;
        for (unsigned long page = 0; page < NR; page++) {
                const uint64_t *at = (const uint64_t *)(area + page * PAGE);

                CHECK(at[0] == page + 1);
                CHECK(at[1] == last[page]);
                CHECK(at[511] == ~page);
        }
}

static void live(const char *name, int ends[2])
{
        pthread_t thread;
        uint64_t none = 0;

        area =
            CALL(mmap(NULL, NR * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        for (unsigned long page = 0; page < NR; page++) {
                uint64_t *at = (uint64_t *)(area + page * PAGE);

                at[0] = page + 1;
                at[511] = ~page;
        }
        file = CALL(open(in_folder(name), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        CHECK(pwrite(file, &none, 8, 0) == 8);
        ZERO(pthread_create(&thread, NULL, work, NULL));
        if (!strcmp(name, "child")) {
                CHECK(write(ends[1], "", 1) == 1);
        } else {
                char byte;

                CHECK(read(ends[0], &byte, 1) == 1);
        }
        close(ends[0]);
        close(ends[1]);
        if (!strcmp(name, "parent"))
                ready();
        wait_for("go");
        over = 1;
        ZERO(pthread_join(thread, NULL));
        CHECK(steps > 0);
        verify();
}

int main(void)
{
        int status, ends[2];

        CALL(pipe2(ends, O_CLOEXEC));
        pid_t child = CALL(fork());

        if (!child) {
                live("child", ends);
                _exit(0);
        }
        live("parent", ends);
        CHECK(CALL(waitpid(child, &status, 0)) == child && status == 0);
        pass();
}
