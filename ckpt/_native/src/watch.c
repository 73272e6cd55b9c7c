/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <linux/ptrace.h>

#define ALL_OPTIONS (PTRACE_O_TRACEEXIT | PTRACE_O_TRACECLONE)

struct watched {
        int32_t tid;
        int32_t pid;
        long mm;
        int group_stop;
        int ending; /* is past its last use of the memory */
};

struct ckpt_watch {
        struct ckpt_live *live;
        struct watched *at;
        long nr;
        long room;
        int calls;
        int chld; /* a signalfd for SIGCHLD */
};

struct ckpt_watch *ckpt_watch_new(struct ckpt_live *live)
{
        struct ckpt_watch *watch = calloc(1, sizeof(*watch));
        sigset_t chld;

        if (!watch)
                return NULL;
        sigemptyset(&chld);
        sigaddset(&chld, SIGCHLD);
        watch->live = live;
        watch->chld = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
        if (watch->chld < 0) {
                free(watch);
                return NULL;
        }
        return watch;
}

void ckpt_watch_free(struct ckpt_watch *watch)
{
        close(watch->chld);
        free(watch->at);
        free(watch);
}

long ckpt_watch_add(struct ckpt_watch *watch, int tid, int pid, long mm, int group_stop)
{
        if (watch->nr == watch->room) {
                long room = watch->room ? 2 * watch->room : 64;
                struct watched *at = realloc(watch->at, (size_t)room * sizeof(*at));

                if (!at)
                        return -ENOMEM;
                watch->at = at;
                watch->room = room;
        }
        watch->at[watch->nr++] = (struct watched){tid, pid, mm, group_stop, 0};
        return 0;
}

static long request(long what, int tid, uintptr_t addr, uintptr_t data)
{
        return ckpt_result(syscall(__NR_ptrace, what, (long)tid, addr, data));
}

static void go_on(const struct ckpt_watch *watch, int tid, int signal)
{
        request(watch->calls ? PTRACE_SYSCALL : PTRACE_CONT, tid, 0, (uintptr_t)signal);
}

void ckpt_watch_resume(struct ckpt_watch *watch, int calls)
{
        watch->calls = calls;
        for (long i = 0; i < watch->nr; i++) {
                struct watched *one = &watch->at[i];

                ckpt_trace_options(one->tid, ALL_OPTIONS);
                if (one->group_stop)
                        request(PTRACE_LISTEN, one->tid, 0, 0);
                else
                        go_on(watch, one->tid, 0);
        }
}

static struct watched *find(const struct ckpt_watch *watch, int tid)
{
        for (long i = 0; i < watch->nr; i++)
                if (watch->at[i].tid == tid)
                        return &watch->at[i];
        return NULL;
}

/* Where the heap ends; brk(2) does not say what it cuts off. */
static uint64_t end_of_heap(int pid)
{
        char path[32], line[512];
        uint64_t end = 0;
        FILE *maps;

        snprintf(path, sizeof(path), "/proc/%d/maps", pid);
        maps = fopen(path, "re");
        while (maps && fgets(line, sizeof(line), maps)) {
                unsigned long to;

                if (strstr(line, "[heap]") && sscanf(line, "%*x-%lx", &to) == 1)
                        end = to;
        }
        if (maps)
                fclose(maps);
        return end;
}

/* A call is about to be made: save what it takes away. */
static void before_call(struct ckpt_watch *watch, const struct watched *one,
                        const struct ptrace_syscall_info *info)
{
        const uint64_t *args = (const uint64_t *)info->entry.args;
        uint64_t start = 0, len = 0;

        switch (info->entry.nr) {
        case __NR_munmap:
        case __NR_madvise:
                start = args[0];
                len = args[1];
                break;
        case __NR_mmap:
                start = args[0];
                len = args[3] & MAP_FIXED ? args[1] : 0;
                break;
        case __NR_mremap:
                start = args[0] + args[2];
                len = args[2] < args[1] ? args[1] - args[2] : 0;
                if (args[3] & MREMAP_FIXED)
                        ckpt_live_save(watch->live, one->mm, args[4], args[4] + args[2]);
                break;
        case __NR_brk:
                start = args[0];
                if (start && end_of_heap(one->pid) > start)
                        len = end_of_heap(one->pid) - start;
                break;
        case __NR_execve:
        case __NR_execveat:
                len = 1ULL << 63;
                break;
        }
        if (len && start + len > start)
                ckpt_live_save(watch->live, one->mm, start, start + len);
}

static void at_call(struct ckpt_watch *watch, const struct watched *one)
{
        struct ptrace_syscall_info info = {0};

        if (one->mm >= 0 &&
            request(PTRACE_GET_SYSCALL_INFO, one->tid, sizeof(info), (uintptr_t)&info) > 0 &&
            info.op == PTRACE_SYSCALL_INFO_ENTRY)
                before_call(watch, one, &info);
        else if (info.op == PTRACE_SYSCALL_INFO_EXIT && info.exit.rval == -EINTR)
                /* What has ended the call may be gone when the thread looks for it. */
                ckpt_trace_interrupt(one->tid);
        go_on(watch, one->tid, 0);
}

/* The last one that uses a memory takes it along. */
static void at_end(struct ckpt_watch *watch, struct watched *one)
{
        int others = 0;

        one->ending = 1;
        for (long i = 0; i < watch->nr; i++)
                others += watch->at[i].mm == one->mm && !watch->at[i].ending;
        if (one->mm >= 0 && !others)
                ckpt_live_save(watch->live, one->mm, 0, 1ULL << 63);
        go_on(watch, one->tid, 0);
}

/* A thread that was born is ours already; a process is not meant. */
static long at_birth(struct ckpt_watch *watch, int tid)
{
        char path[64];

        for (long i = 0; i < watch->nr; i++) {
                struct watched *kin = &watch->at[i];

                snprintf(path, sizeof(path), "/proc/%d/task/%d", kin->pid, tid);
                if (access(path, F_OK) < 0)
                        continue;
                go_on(watch, tid, 0);
                return ckpt_watch_add(watch, tid, kin->pid, kin->mm, 0);
        }
        return ckpt_trace_detach(tid, 0);
}

/* A signal that nobody would have seen, SIGCHLD without a handler, is shown to who traces, and has
 * ended a call for that. */
static void take_signal(const struct ckpt_watch *watch, int tid, int signal)
{
        ckpt_trace_again(tid);
        go_on(watch, tid, signal);
}

/* 0, or -errno of a thread that can't be served. */
static long handle(struct ckpt_watch *watch, int tid, int status)
{
        struct watched *one = find(watch, tid);
        int event = status >> 8, signal = status & 0xff;

        if (!one)
                return at_birth(watch, tid);
        if (event == PTRACE_EVENT_EXIT)
                at_end(watch, one);
        else if (event == PTRACE_EVENT_STOP && signal != SIGTRAP)
                request(PTRACE_LISTEN, tid, 0, 0);
        else if (event == PTRACE_EVENT_STOP)
                take_signal(watch, tid, 0);
        else if (event)
                go_on(watch, tid, 0);
        else if (signal == (SIGTRAP | 0x80))
                at_call(watch, one);
        else
                take_signal(watch, tid, signal);
        return 0;
}

static int is_own_child(int pid)
{
        char path[32], text[256], *at;
        int fd, ppid = 0;
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        close(fd);
        text[n > 0 ? n : 0] = 0;
        at = strrchr(text, ')');
        return at && sscanf(at + 1, " %*c %d", &ppid) == 1 && ppid == getpid();
}

/* Ends must be taken note of: execve(2) waits for that, and the parent of a process. */
static void reap(struct ckpt_watch *watch)
{
        for (long i = 0; i < watch->nr; i++) {
                struct watched *one = &watch->at[i];
                struct ckpt_stop stop = {.tid = one->tid};

                if (!one->ending)
                        continue;
                ckpt_trace_look(&stop);
                if (stop.kind == CKPT_STOP_EXITED || stop.kind == CKPT_STOP_KILLED) {
                        if (one->tid == one->pid && is_own_child(one->pid))
                                continue; /* whoever waits for it here shall have it */
                        ckpt_trace_reap(one->tid);
                } else if (stop.kind != CKPT_STOP_GONE) {
                        continue;
                }
                watch->at[i--] = watch->at[--watch->nr];
        }
}

static void serve_stops(struct ckpt_watch *watch)
{
        for (;;) {
                siginfo_t info = {0};

                if (waitid(P_ALL, 0, &info, WSTOPPED | WNOHANG | WNOWAIT | __WALL) < 0 ||
                    !info.si_pid)
                        break;
                if (handle(watch, info.si_pid, info.si_status))
                        break;
        }
        reap(watch);
}

static void drain(int chld)
{
        struct signalfd_siginfo info;

        while (read(chld, &info, sizeof(info)) > 0)
                ;
}

long ckpt_watch_run(struct ckpt_watch *watch, int timeout_ms)
{
        struct pollfd waits[2] = {{.fd = watch->chld, .events = POLLIN},
                                  {.fd = ckpt_live_done(watch->live), .events = POLLIN}};
        sigset_t chld, before;
        int got;

        sigemptyset(&chld);
        sigaddset(&chld, SIGCHLD);
        pthread_sigmask(SIG_BLOCK, &chld, &before);
        do {
                serve_stops(watch);
                got = poll(waits, 2, timeout_ms);
                drain(watch->chld);
        } while (got > 0 && !waits[1].revents);
        serve_stops(watch);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return got > 0;
}
