// A thread in each of several blocking calls, none of which may come back early: they all end when
// standard input does. A timer sends a signal 1,000 times a second to one more thread.
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <linux/futex.h>

static int ends[2];
static atomic_int going = 1, failures, word;
static atomic_long ticks;

static void expect(int good, const char *what)
{
        if (good)
                return;
        printf("%s: %s\n", what, strerror(errno));
        atomic_fetch_add(&failures, 1);
}

static void *in_read(void *nothing)
{
        char byte;

        (void)nothing;
        expect(read(ends[0], &byte, 1) == 0, "read");
        return NULL;
}

static void *in_poll(void *nothing)
{
        struct pollfd poll_fd = {.fd = ends[0], .events = POLLIN};

        (void)nothing;
        expect(poll(&poll_fd, 1, 100000) == 1, "poll");
        return NULL;
}

static void *in_futex(void *nothing)
{
        struct timespec limit = {.tv_sec = 100};

        (void)nothing;
        expect(!syscall(SYS_futex, &word, FUTEX_WAIT, 0, &limit, NULL, 0), "futex");
        return NULL;
}

static void *in_nanosleep(void *nothing)
{
        (void)nothing;
        while (going) {
                struct timespec nap = {.tv_nsec = 3000000};

                expect(!nanosleep(&nap, NULL), "nanosleep");
        }
        return NULL;
}

static void on_alarm(int number)
{
        (void)number;
        atomic_fetch_add(&ticks, 1);
}

static void *in_handlers(void *nothing)
{
        sigset_t alarm;

        (void)nothing;
        sigemptyset(&alarm);
        sigaddset(&alarm, SIGALRM);
        pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
        while (going)
                ;
        return NULL;
}

int main(void)
{
        void *(*const bodies[])(void *) = {in_read, in_poll, in_futex, in_nanosleep, in_handlers};
        struct itimerval each_ms = {.it_interval.tv_usec = 1000, .it_value.tv_usec = 1000};
        pthread_t threads[5];
        sigset_t all;
        char byte;

        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        signal(SIGALRM, on_alarm);
        if (pipe(ends))
                return 1;
        for (int i = 0; i < 5; i++)
                pthread_create(&threads[i], NULL, bodies[i], NULL);
        setitimer(ITIMER_REAL, &each_ms, NULL);
        puts("ready");
        fflush(stdout);
        expect(read(0, &byte, 1) == 0, "read of standard input");
        going = 0;
        close(ends[1]);
        while (syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0) != 1)
                ;
        for (int i = 0; i < 5; i++)
                pthread_join(threads[i], NULL);
        printf("%s\n", failures || !ticks ? "harmed" : "whole");
        return 0;
}
