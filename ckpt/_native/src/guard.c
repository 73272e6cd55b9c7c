/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>

/* What a guard does that was not sent away. */
struct duty {
        const int32_t *lfds;
        const char *const *names; /* NULL: the descriptors are pidfds */
        uint64_t nr;
};

static _Noreturn void stand_guard(const struct duty *duty, int lfd)
{
        char byte;
        ssize_t got;

        setsid();
        do
                got = read(lfd, &byte, 1);
        while (got < 0 && errno == EINTR);
        if (got == 1)
                _exit(0);
        for (uint64_t i = 0; i < duty->nr; i++)
                if (duty->names)
                        unlinkat(duty->lfds[i], duty->names[i], 0);
                else
                        syscall(__NR_pidfd_send_signal, duty->lfds[i], SIGKILL, NULL, 0);
        _exit(1);
}

static long start(const struct duty *duty, struct ckpt_guard *guard)
{
        struct clone_args args = {.exit_signal = 0};
        sigset_t all, before;
        int ends[2];
        long pid;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return -errno;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        pid = syscall(__NR_clone3, &args, sizeof(args));
        if (pid == 0) {
                close(ends[1]);
                stand_guard(duty, ends[0]);
        }
        pid = ckpt_result(pid);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        close(ends[0]);
        if (pid < 0) {
                close(ends[1]);
                return pid;
        }
        guard->pid = (int32_t)pid;
        guard->lfd = ends[1];
        return 0;
}

long ckpt_guard_start(const int32_t *pidfds, uint64_t nr, struct ckpt_guard *guard)
{
        return start(&(struct duty){.lfds = pidfds, .nr = nr}, guard);
}

long ckpt_guard_names(const int32_t *dirs, const char *const *names, uint64_t nr,
                      struct ckpt_guard *guard)
{
        return start(&(struct duty){.lfds = dirs, .names = names, .nr = nr}, guard);
}
