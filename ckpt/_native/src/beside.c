/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include "beside.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#define STACK_SIZE 65536

long ckpt_beside(int (*work)(void *), void *argument, int share)
{
        sigset_t all, before;
        char *stack = malloc(STACK_SIZE);
        pid_t pid;
        long err = 0;

        if (!stack)
                return -ENOMEM;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        pid = clone(work, stack + STACK_SIZE, CLONE_VM | CLONE_VFORK | share, argument);
        if (pid < 0)
                err = -errno;
        else
                while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
                        ;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        free(stack);
        return err;
}
