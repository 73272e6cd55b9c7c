// dump: --file-locks
// restore: --file-locks
// args: nanosleep
// args: futex
// args: futex-timed
// args: read
// args: poll
// args: poll-timed
// args: select
// args: wait4
// args: sigtimedwait
// args: flock
/* A thread that sits in one blocking call during the dump sees it end as if nothing had been. */
#include "victim.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/select.h>

static const char *call;
static uint32_t word;
static int ends[2];
static pid_t sleeper, kid;

static double now(void)
{
        struct timespec t;

        CALL(clock_gettime(CLOCK_MONOTONIC, &t));
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void sleep_through(void)
{
        struct timespec left = {.tv_sec = 1, .tv_nsec = 500000000};
        double start = now();

        CALL(nanosleep(&left, NULL));
        CHECK(now() - start >= 1.5);
}

static void block(void)
{
        struct timespec long_time = {.tv_sec = 600};
        struct pollfd poller = {.fd = ends[0], .events = POLLIN};
        sigset_t set;
        fd_set fds;
        char byte;

        if (!strcmp(call, "nanosleep")) {
                sleep_through();
                /* However long a dump may take: the thread is there after it. */
                wait_for("go");
        } else if (!strcmp(call, "futex")) {
                CALL(syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL));
        } else if (!strcmp(call, "futex-timed")) {
                CALL(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &long_time));
        } else if (!strcmp(call, "read")) {
                CHECK(CALL(read(ends[0], &byte, 1)) == 1);
        } else if (!strcmp(call, "poll")) {
                CHECK(CALL(poll(&poller, 1, -1)) == 1);
        } else if (!strcmp(call, "poll-timed")) {
                CHECK(CALL(poll(&poller, 1, 600000)) == 1);
        } else if (!strcmp(call, "select")) {
                FD_ZERO(&fds);
                FD_SET(ends[0], &fds);
                CHECK(CALL(select(ends[0] + 1, &fds, NULL, NULL, NULL)) == 1);
        } else if (!strcmp(call, "wait4")) {
                join_child(kid);
        } else if (!strcmp(call, "sigtimedwait")) {
                sigemptyset(&set);
                sigaddset(&set, SIGUSR1);
                CHECK(CALL(sigtimedwait(&set, NULL, &long_time)) == SIGUSR1);
        } else {
                int fd = CALL(open(in_folder("locked"), O_RDWR));
                CALL(flock(fd, LOCK_EX));
        }
}

static void *body(UNUSED void *unused)
{
        sleeper = tid_of_caller();
        block();
        return NULL;
}

static void wake(int locked)
{
        if (!strncmp(call, "futex", 5)) {
                word = 1;
                while (syscall(SYS_futex, &word, FUTEX_WAKE, 1) == 0)
                        sched_yield();
        } else if (!strcmp(call, "sigtimedwait")) {
                CALL(kill(getpid(), SIGUSR1));
        } else if (!strcmp(call, "flock")) {
                CALL(flock(locked, LOCK_UN));
        } else if (strcmp(call, "nanosleep") && strcmp(call, "wait4")) {
                tell(ends[1]);
        }
}

static void wait_in_child(void)
{
        wait_for("go");
}

int main(UNUSED int argc, char **argv)
{
        pthread_t thread;
        sigset_t set;
        int locked = -1;

        call = argv[1];
        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        ZERO(pthread_sigmask(SIG_BLOCK, &set, NULL));
        CALL(pipe2(ends, O_CLOEXEC));
        if (!strcmp(call, "wait4"))
                kid = child(wait_in_child);
        if (!strcmp(call, "flock")) {
                locked = CALL(open(in_folder("locked"), O_RDWR | O_CREAT, 0600));
                CALL(flock(locked, LOCK_EX));
        }
        ZERO(pthread_create(&thread, NULL, body, NULL));
        while (!*(volatile pid_t *)&sleeper)
                sched_yield();
        until_blocked(sleeper);
        ready_and_wait();
        wake(locked);
        ZERO(pthread_join(thread, NULL));
        pass();
}
