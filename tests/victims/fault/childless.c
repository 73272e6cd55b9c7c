// args: all
// args: all subreaper
// args: ordinary
// args: ordinary subreaper
/* A process that has no children and would notice one, or a signal of its end; with a thread that
 * writes the number of its round to each of its pages in order, again and again. With the
 * argument `all` it looks also for children that send no signal, as only tracers do. */
#include "victim.h"

#include <stdatomic.h>

#define NR 2048UL

static volatile sig_atomic_t nr_signals;
static atomic_int stop;
static uint64_t *area;
static int kinds;

static void count(int sig)
{
        (void)sig;
        nr_signals++;
}

static void *watch(void *unused)
{
        siginfo_t info;

        while (!stop) {
                CHECK(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | kinds) == -1);
                CHECK(errno == ECHILD);
                CHECK(!nr_signals);
        }
        return unused;
}

static void *write_rounds(void *unused)
{
        for (uint64_t round = 1; !stop; round++) {
                for (uint64_t page = 0; page < NR; page++)
                        ((volatile uint64_t *)area)[page * PAGE / 8] = round;
                usleep(100);
        }
        return unused;
}

int main(int argc, char **argv)
{
        int subreaper = argc > 2 && !strcmp(argv[2], "subreaper"), is = -1, fd;
        pthread_t watcher, writer;

        kinds = !strcmp(argv[1], "all") ? __WALL : 0;
        CALL(prctl(PR_SET_CHILD_SUBREAPER, subreaper, 0, 0, 0));
        CHECK(signal(SIGCHLD, count) != SIG_ERR);
        area =
            CALL(mmap(NULL, NR * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        memset(area, 0, NR * PAGE);
        fd = CALL(open(in_folder("area"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        CHECK(write(fd, &area, 8) == 8);
        close(fd);
        watcher = started_thread(watch, NULL);
        writer = started_thread(write_rounds, NULL);
        ready_and_wait();
        stop = 1;
        ZERO(pthread_join(watcher, NULL));
        ZERO(pthread_join(writer, NULL));
        CALL(prctl(PR_GET_CHILD_SUBREAPER, &is, 0, 0, 0));
        CHECK(is == subreaper);
        CHECK(!nr_signals);
        pass();
}
