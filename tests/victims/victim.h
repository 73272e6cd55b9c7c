/*
 * Handshake and checks of the victims. A victim builds its state, calls ready(), waits with
 * wait_for("go") in every thread or process that has to prove something, checks that state and ends
 * with pass(). wait_for sits in open(2) of a FIFO, which the kernel restarts by itself and which
 * leaves no descriptor behind.
 */
#ifndef VICTIM_H
#define VICTIM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE   4096UL
#define UNUSED __attribute__((unused))

/* Reports to `out` without stdio, which a restore must not have to flush. */
UNUSED static void say(const char *format, ...)
{
        char line[512];
        va_list args;

        va_start(args, format);
        int length = vsnprintf(line, sizeof(line), format, args);
        va_end(args);
        if (write(1, line, length < (int)sizeof(line) ? length : (int)sizeof(line) - 1) < 0)
                _exit(3);
}

UNUSED __attribute__((noreturn)) static void fail(const char *file, int line, const char *what)
{
        int error = errno;

        say("FAIL %s:%d (pid %d): %s (errno %d %s)\n", file, line, getpid(), what, error,
            strerror(error));
        _exit(1);
}

/* Holds, or the victim ends with a line that says what did not. */
#define CHECK(condition) ((condition) ? (void)0 : fail(__FILE__, __LINE__, #condition))

/* CHECK for a call that returns -1 and errno; its value. */
#define CALL(expression)                                                                           \
        ({                                                                                         \
                __auto_type value_ = (expression);                                                 \
                if ((long)value_ == -1)                                                            \
                        fail(__FILE__, __LINE__, #expression);                                     \
                value_;                                                                            \
        })

/* CHECK for calls that return an error number. */
#define ZERO(expression)                                                                           \
        ({                                                                                         \
                int error_ = (expression);                                                         \
                errno = error_;                                                                    \
                if (error_)                                                                        \
                        fail(__FILE__, __LINE__, #expression);                                     \
        })

/* A path in the victim's folder; the buffer is the thread's, valid until its next call. */
UNUSED static const char *in_folder(const char *name)
{
        static __thread char path[512];
        const char *folder = getenv("VICTIM_FOLDER");

        CHECK(folder != NULL);
        CHECK(snprintf(path, sizeof(path), "%s/%s", folder, name) < (int)sizeof(path));
        return path;
}

/* The state is built: the dump may come. Leaves no descriptor. */
UNUSED static void ready(void)
{
        int fd = CALL(open(in_folder("ready"), O_WRONLY | O_CLOEXEC));

        CHECK(write(fd, "ready\n", 6) == 6);
        close(fd);
}

/* Until the test lets `step` happen. Must not be seen interrupted. */
UNUSED static void wait_for(const char *step)
{
        int fd = CALL(open(in_folder(step), O_RDONLY | O_CLOEXEC));

        close(fd);
}

/* pthread_create() that returns when the thread runs with its own signal mask, not blocked all. */
struct started {
        void *(*body)(void *);
        void *argument;
        pthread_barrier_t begun;
};

UNUSED static void *start_body(void *argument)
{
        struct started *start = argument;
        void *(*body)(void *) = start->body;
        void *own = start->argument;

        pthread_barrier_wait(&start->begun);
        return body(own);
}

UNUSED static pthread_t started_thread(void *(*body)(void *), void *argument)
{
        struct started start = {.body = body, .argument = argument};
        pthread_t thread;

        ZERO(pthread_barrier_init(&start.begun, NULL, 2));
        ZERO(pthread_create(&thread, NULL, start_body, &start));
        pthread_barrier_wait(&start.begun);
        ZERO(pthread_barrier_destroy(&start.begun));
        return thread;
}

UNUSED static void ready_and_wait(void)
{
        ready();
        wait_for("go");
}

UNUSED __attribute__((noreturn)) static void pass(void)
{
        say("EXIT-SUCCESS\n");
        exit(0);
}

/* Until the thread or process `tid` sleeps in the kernel. */
UNUSED static void until_blocked(pid_t tid)
{
        char path[64], text[256];

        snprintf(path, sizeof(path), "/proc/%d/stat", tid);
        for (;;) {
                int fd = CALL(open(path, O_RDONLY | O_CLOEXEC));
                ssize_t length = CALL(read(fd, text, sizeof(text) - 1));
                close(fd);
                text[length] = 0;
                if (strrchr(text, ')')[2] == 'S')
                        return;
                sched_yield();
        }
}

/* A byte pattern that differs from page to page and from seed to seed. */
UNUSED static uint64_t pattern(uint64_t seed, uint64_t index)
{
        uint64_t x = (seed + 1) * 0x9E3779B97F4A7C15ULL + index * 0xBF58476D1CE4E5B9ULL;

        x ^= x >> 31;
        return x * 0x94D049BB133111EBULL;
}

UNUSED static void fill(void *memory, size_t bytes, uint64_t seed)
{
        uint64_t *words = memory;

        for (size_t i = 0; i < bytes / 8; i++)
                words[i] = pattern(seed, i);
}

/* Does `memory` hold what fill() put there? Says where it does not. */
UNUSED static int filled(const void *memory, size_t bytes, uint64_t seed)
{
        const uint64_t *words = memory;

        for (size_t i = 0; i < bytes / 8; i++)
                if (words[i] != pattern(seed, i)) {
                        say("byte %zu of %p differs\n", i * 8, memory);
                        return 0;
                }
        return 1;
}

UNUSED static int all_zero(const void *memory, size_t bytes)
{
        const uint64_t *words = memory;

        for (size_t i = 0; i < bytes / 8; i++)
                if (words[i])
                        return 0;
        return 1;
}

/* Fresh private anonymous memory, readable and writable. */
UNUSED static void *anonymous(size_t bytes)
{
        void *memory =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        CHECK(memory != MAP_FAILED);
        return memory;
}

/* A file of the victim's folder, made with `bytes` of pattern `seed`; open for reading and writing.
 */
UNUSED static int made_file(const char *name, size_t bytes, uint64_t seed)
{
        int fd = CALL(open(in_folder(name), O_RDWR | O_CREAT | O_TRUNC, 0644));
        char *text = malloc(bytes + 8);

        fill(text, bytes, seed);
        CHECK(write(fd, text, bytes) == (ssize_t)bytes);
        free(text);
        CALL(lseek(fd, 0, SEEK_SET));
        return fd;
}

UNUSED static pid_t tid_of_caller(void)
{
        return (pid_t)syscall(SYS_gettid);
}

/* A child that runs `body`, ends with success if that returns. */
UNUSED static pid_t child(void (*body)(void))
{
        pid_t pid = CALL(fork());

        if (pid == 0) {
                body();
                _exit(0);
        }
        return pid;
}

/* `pid` must end by itself with success. */
UNUSED static void join_child(pid_t pid)
{
        int status;

        CHECK(CALL(waitpid(pid, &status, 0)) == pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* One way pipe signal between parent and child: one byte. */
UNUSED static void tell(int fd)
{
        CHECK(write(fd, "x", 1) == 1);
}

UNUSED static void hear(int fd)
{
        char byte;

        CHECK(CALL(read(fd, &byte, 1)) == 1);
}

/* All others have closed their ends for writing. */
UNUSED static void hear_end(int fd)
{
        char byte;

        CHECK(CALL(read(fd, &byte, 1)) == 0);
}
#endif
