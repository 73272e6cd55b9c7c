/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"
#include "seizing.h"
#include "stopwait.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/user.h>

_Static_assert(sizeof(struct user_regs_struct) == CKPT_REGS_SIZE, "registers");
_Static_assert(sizeof(((struct ckpt_thread *)NULL)->regs) == CKPT_REGS_SIZE, "registers");

#define IO_WORKER 0x10 /* PF_IO_WORKER */

int ckpt_is_worker(int tid)
{
        char path[64], text[512];
        const char *at;
        unsigned flags;
        ssize_t n;
        int fd;

        /* That of the process would be summed up over all threads. */
        snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", tid, tid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return 0;
        n = read(fd, text, sizeof(text) - 1);
        close(fd);
        if (n <= 0)
                return 0;
        text[n] = 0;
        at = strrchr(text, ')');
        return at && sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) == 1 &&
               (flags & IO_WORKER);
}

void ckpt_seize_many(const int32_t *tids, const int32_t *pids, uint64_t nr, unsigned long options,
                     int32_t *results)
{
        struct seizing seizing;

        if (!nr)
                return;
        seizing_begin(&seizing);
        for (uint64_t i = 0; i < nr; i++)
                results[i] = ckpt_is_worker(tids[i])
                                 ? -ENOTSUP
                                 : (int32_t)seizing_seize(&seizing, tids[i], pids[i], options);
        seizing_end(&seizing);
}

void ckpt_interrupt_many(const int32_t *tids, uint64_t nr)
{
        for (uint64_t i = 0; i < nr; i++) {
                struct ckpt_stop stop = {.tid = tids[i]};

                /* One that stands already (its group is stopped) would stop a second time as soon
                 * as it is let run. */
                ckpt_trace_look(&stop);
                if (stop.kind != CKPT_STOP_INTERRUPT && stop.kind != CKPT_STOP_GROUP)
                        ckpt_trace_interrupt(tids[i]);
        }
}

/* Returns 1 when nothing more is to come of this thread. */
static int settle(struct ckpt_stop *stop)
{
        ckpt_trace_look(stop);
        switch (stop->kind) {
        case CKPT_STOP_NONE:
                return 0;
        case CKPT_STOP_SIGNAL:
        case CKPT_STOP_SYSCALL:
        case CKPT_STOP_EVENT:
                if (stop->kind == CKPT_STOP_SIGNAL)
                        ckpt_trace_again(stop->tid);
                ckpt_trace_interrupt(stop->tid);
                ckpt_trace_cont(stop->tid, stop->kind == CKPT_STOP_SIGNAL ? stop->signal : 0);
                stop->kind = CKPT_STOP_NONE;
                stop->signal = 0;
                return 0;
        case CKPT_STOP_EXITED:
        case CKPT_STOP_KILLED:
                if (stop->tid != stop->pid)
                        ckpt_trace_reap(stop->tid);
                return 1;
        case CKPT_STOP_INTERRUPT:
        case CKPT_STOP_GROUP:
                ckpt_trace_again(stop->tid);
                return 1;
        default:
                return 1;
        }
}

static uint64_t settle_all(struct ckpt_stop *stops, uint64_t nr)
{
        uint64_t left = 0;

        for (uint64_t i = 0; i < nr; i++)
                if (stops[i].kind == CKPT_STOP_NONE && !settle(&stops[i]))
                        left++;
        return left;
}

/* Whoever took a trap for another reason has forgotten that it was interrupted. */
static void interrupt_again(const struct ckpt_stop *stops, uint64_t nr)
{
        for (uint64_t i = 0; i < nr; i++)
                if (stops[i].kind == CKPT_STOP_NONE)
                        ckpt_trace_interrupt(stops[i].tid);
}

/* One thread after the other, for each news would else mean a look at all of them; but all of them
 * when there is no news, since one may wait for the end of another. */
long ckpt_stand(struct ckpt_stop *stops, uint64_t nr, int64_t timeout_ns)
{
        struct stopwait wait;
        uint64_t at = 0;
        long err = 0;
        uint64_t left;

        stopwait_begin(&wait, timeout_ns);
        while (at < nr && !err) {
                if (stops[at].kind != CKPT_STOP_NONE || settle(&stops[at])) {
                        at++;
                        continue;
                }
                err = stopwait_pause(&wait);
                if (!err && !wait.woken && settle_all(stops, nr))
                        interrupt_again(stops, nr);
        }
        left = settle_all(stops, nr);
        stopwait_end(&wait);
        return err == -EINTR && left ? -EINTR : (long)left;
}

void ckpt_unstand(struct ckpt_stop *stops, uint64_t nr)
{
        for (uint64_t i = 0; i < nr; i++) {
                if (stops[i].kind != CKPT_STOP_INTERRUPT)
                        continue;
                ckpt_trace_cont(stops[i].tid, 0);
                stops[i].kind = CKPT_STOP_NONE;
        }
}

void ckpt_detach_many(const int32_t *tids, uint64_t nr, int32_t *results)
{
        for (uint64_t i = 0; i < nr; i++) {
                struct ckpt_stop stop = {.tid = tids[i]};

                ckpt_trace_look(&stop);
                /* The kernel lets go with a mark as if a signal had come: a call that is only
                 * about to begin would end at once. */
                if (stop.kind == CKPT_STOP_SYSCALL) {
                        results[i] = -EBUSY;
                        continue;
                }
                if (stop.kind == CKPT_STOP_SIGNAL)
                        ckpt_trace_again(tids[i]);
                results[i] = (int32_t)ckpt_trace_detach(
                    tids[i], stop.kind == CKPT_STOP_SIGNAL ? stop.signal : 0);
        }
}

/* struct rseq and struct rseq_cs of rseq(2). */
#define RSEQ_CS_OFFSET 8

struct section {
        uint32_t version;
        uint32_t flags;
        uint64_t start_ip;
        uint64_t post_commit_offset;
        uint64_t abort_ip;
};

static uint64_t abort_of_section(int tid, const struct ckpt_rseq *rseq, uint64_t rip)
{
        struct section section;
        uint64_t addr;

        if (!rseq->pointer)
                return 0;
        if (ckpt_vm_read(tid, rseq->pointer + RSEQ_CS_OFFSET, &addr, sizeof(addr)) != sizeof(addr))
                return 0;
        if (!addr || ckpt_vm_read(tid, addr, &section, sizeof(section)) != sizeof(section))
                return 0;
        return rip - section.start_ip < section.post_commit_offset ? section.abort_ip : 0;
}

static long read_thread(struct ckpt_thread *thread, void *xstate, size_t xstate_size)
{
        unsigned char siginfo[CKPT_SIGINFO_SIZE];
        int tid = thread->tid;
        uint64_t rip;
        long result = ckpt_trace_get_regs(tid, thread->regs);

        if (!result)
                result = ckpt_trace_get_sigmask(tid, &thread->sigmask);
        if (!result)
                result = ckpt_trace_get_xstate(tid, xstate, xstate_size);
        if (result < 0)
                return result;
        thread->nr_xstate = (uint32_t)result;
        result = ckpt_trace_peek_siginfo(tid, 0, 0, 1, siginfo);
        if (result < 0)
                return result;
        thread->pending = result > 0;
        result = ckpt_trace_get_rseq(tid, &thread->rseq);
        if (result == -ESRCH)
                return result;
        memcpy(&rip, thread->regs + offsetof(struct user_regs_struct, rip), sizeof(rip));
        thread->abort_ip = abort_of_section(tid, &thread->rseq, rip);
        return ckpt_trace_get_dispatch(tid, &thread->dispatch);
}

void ckpt_read_threads(struct ckpt_thread *threads, uint64_t nr, void *xstates, size_t xstate_size)
{
        for (uint64_t i = 0; i < nr; i++)
                threads[i].result = (int32_t)read_thread(
                    &threads[i], (char *)xstates + i * xstate_size, xstate_size);
}
