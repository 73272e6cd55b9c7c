/* SPDX-License-Identifier: GPL-2.0-only */
#include "seizing.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SECOND_NS   1000000000LL
#define PATIENCE_NS 5000000LL

/* The threads of a process that we trace and that have ended. Its leader is left to its parent, and
 * to whoever looks at it here: no execve(2) waits for it. */
static void reap_threads(int pid)
{
        struct dirent *entry;
        char path[32];
        DIR *threads;

        snprintf(path, sizeof(path), "/proc/%d/task", pid);
        threads = opendir(path);
        while (threads && (entry = readdir(threads))) {
                struct ckpt_stop stop = {.tid = atoi(entry->d_name)};

                if (!stop.tid || stop.tid == pid)
                        continue;
                /* To reap one that stands would take its stop, which is not asked for here. */
                ckpt_trace_look(&stop);
                if (stop.kind == CKPT_STOP_EXITED || stop.kind == CKPT_STOP_KILLED)
                        ckpt_trace_reap(stop.tid);
        }
        if (threads)
                closedir(threads);
}

static void *reap(void *context)
{
        struct seizing *seizing = context;

        pthread_mutex_lock(&seizing->lock);
        while (!seizing->over) {
                int64_t until = ckpt_now_ns() + PATIENCE_NS;
                struct timespec limit = {until / SECOND_NS, until % SECOND_NS};
                int pid = seizing->pid;

                if (pthread_cond_clockwait(&seizing->changed, &seizing->lock, CLOCK_MONOTONIC,
                                           &limit) != ETIMEDOUT ||
                    !pid || pid != seizing->pid)
                        continue;
                pthread_mutex_unlock(&seizing->lock);
                reap_threads(pid);
                pthread_mutex_lock(&seizing->lock);
        }
        pthread_mutex_unlock(&seizing->lock);
        return NULL;
}

void seizing_begin(struct seizing *seizing)
{
        *seizing = (struct seizing){.pid = 0};
        pthread_mutex_init(&seizing->lock, NULL);
        pthread_cond_init(&seizing->changed, NULL);
}

static void start(struct seizing *seizing)
{
        sigset_t all, before;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        seizing->begun = !pthread_create(&seizing->thread, NULL, reap, seizing);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void note(struct seizing *seizing, int pid)
{
        pthread_mutex_lock(&seizing->lock);
        seizing->pid = pid;
        pthread_mutex_unlock(&seizing->lock);
}

long seizing_seize(struct seizing *seizing, int tid, int pid, unsigned long options)
{
        long err;

        if (!seizing->begun)
                start(seizing);
        note(seizing, pid);
        err = ckpt_trace_seize(tid, options);
        note(seizing, 0);
        return err;
}

void seizing_end(struct seizing *seizing)
{
        pthread_mutex_lock(&seizing->lock);
        seizing->over = 1;
        pthread_cond_signal(&seizing->changed);
        pthread_mutex_unlock(&seizing->lock);
        if (seizing->begun)
                pthread_join(seizing->thread, NULL);
        pthread_cond_destroy(&seizing->changed);
        pthread_mutex_destroy(&seizing->lock);
}
