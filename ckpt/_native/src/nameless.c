/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define STACK (64 << 10)

struct job {
        const struct ckpt_nameless *wanted;
        long result;
};

static int make(const struct ckpt_nameless *wanted)
{
        char link[32];

        if (wanted->from >= 0) {
                snprintf(link, sizeof(link), "/proc/self/fd/%d", wanted->from);
                return linkat(AT_FDCWD, link, wanted->dir, wanted->name, AT_SYMLINK_FOLLOW);
        }
        umask(0); /* the child's own */
        if (S_ISDIR(wanted->mode))
                return mkdirat(wanted->dir, wanted->name, wanted->mode & 07777);
        return mknodat(wanted->dir, wanted->name, wanted->mode, wanted->rdev);
}

static int in_child(void *argument)
{
        struct job *job = argument;
        const struct ckpt_nameless *wanted = job->wanted;
        int flags = wanted->from < 0 && S_ISDIR(wanted->mode) ? AT_REMOVEDIR : 0;
        int lfd;

        setsid(); /* what is sent to our group does not reach it */
        if (make(wanted) < 0) {
                job->result = -errno;
                return 0;
        }
        lfd = openat(wanted->dir, wanted->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        job->result = ckpt_result(lfd);
        if (unlinkat(wanted->dir, wanted->name, flags) < 0) {
                job->result = -errno;
                if (lfd >= 0)
                        close(lfd);
        }
        return 0;
}

long ckpt_nameless(const struct ckpt_nameless *wanted)
{
        struct job job = {.wanted = wanted, .result = -ECHILD};
        sigset_t all, before;
        char *stack;
        long pid;

        stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (stack == MAP_FAILED)
                return -errno;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        pid =
            ckpt_result(clone(in_child, stack + STACK, CLONE_VM | CLONE_FILES | CLONE_VFORK, &job));
        if (pid > 0)
                while (waitpid((pid_t)pid, NULL, __WALL) < 0 && errno == EINTR)
                        ;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        munmap(stack, STACK);
        return pid < 0 ? pid : job.result;
}
