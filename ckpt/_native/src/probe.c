/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define CKPT_DIED 255

/* clone3 without an exit signal; 0 in the child. */
static long raw_fork(int *set_tid)
{
        struct clone_args args = {
            .set_tid = (uintptr_t)set_tid,
            .set_tid_size = set_tid ? 1 : 0,
        };

        return ckpt_result(syscall(__NR_clone3, &args, sizeof(args)));
}

static long reap(long pid)
{
        int status;

        while (waitpid((pid_t)pid, &status, __WALL) < 0)
                if (errno != EINTR)
                        return -errno;
        if (!WIFEXITED(status))
                return -CKPT_DIED;
        return -WEXITSTATUS(status);
}

long ckpt_probe_set_tid(int pid)
{
        int wanted = pid;
        long child = raw_fork(&wanted);

        if (child == 0)
                syscall(__NR_exit_group, 0);
        if (child < 0)
                return child;
        return reap(child) ?: (child == pid ? 0 : -EINVAL);
}

long ckpt_probe_move_vdso(uint64_t from, uint64_t len, uint64_t to)
{
        long child = raw_fork(NULL);

        if (child == 0) {
                long moved =
                    syscall(__NR_mremap, from, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to);

                syscall(__NR_exit_group, moved == (long)to ? 0 : errno);
        }
        return child < 0 ? child : reap(child);
}
