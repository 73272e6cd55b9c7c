/* SPDX-License-Identifier: GPL-2.0-only
 *
 * PTRACE_SEIZE where threads call execve(2). Not for Python.
 *
 * Who calls it holds a lock of its process, for which PTRACE_SEIZE waits, until the other threads
 * have ended; and those of them that we trace have not before we have reaped them. So while one
 * thread of ours waits for that lock, another one reaps.
 *
 * Source: de_thread() in fs/exec.c, ptrace_attach() in kernel/ptrace.c.
 */
#ifndef CKPT_SEIZING_H
#define CKPT_SEIZING_H

#include "native.h"

#include <pthread.h>

struct seizing {
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        int begun;
        int over;
        int pid; /* of which a thread is being seized; 0: none is */
};

/* From here on `seizing_seize` does not wait for ever. Where no thread can be had, it may. */
void seizing_begin(struct seizing *seizing);

/* ckpt_trace_seize() of a thread of process `pid`. */
long seizing_seize(struct seizing *seizing, int tid, int pid, unsigned long options);

void seizing_end(struct seizing *seizing);

#endif
