/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include "lazyfill.h"
#include "lazystate.h"
#include "uffd.h"

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>

long ckpt_lazy_register(int uffd, const struct ckpt_extent *in, uint64_t nr_in, int wp)
{
        uint64_t mode = UFFDIO_REGISTER_MODE_MISSING | (wp ? UFFDIO_REGISTER_MODE_WP : 0);
        long err = 0;

        for (uint64_t i = 0; !err && i < nr_in; i++)
                err = uffd_register(uffd, &in[i], mode);
        return err;
}

long ckpt_lazy_start(const struct ckpt_lazy_job *job)
{
        struct clone_args args = {.flags = CLONE_FILES, .exit_signal = SIGCHLD};
        sigset_t all, before;
        long pid;

        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, &before);
        pid = syscall(__NR_clone3, &args, sizeof(args));
        if (pid == 0) {
                prctl(PR_SET_NAME, "ckpt-lazy-pages");
                _exit(ckpt_lazy_serve(job) ? 1 : 0);
        }
        pid = ckpt_result(pid);
        sigprocmask(SIG_SETMASK, &before, NULL);
        return pid;
}

long ckpt_lazy_replay(const struct ckpt_lazy_job *job)
{
        struct lazy_state state;
        long err = lazy_state_load(&state, job);

        if (!err)
                err = lazy_state_renew(&state);
        return err ? err : (long)lazy_state_left(&state);
}
