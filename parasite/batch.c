/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The executor of batches. It knows system calls and nothing of checkpoints: every decision was
 * made by whoever computed the batch.
 *
 * Rules: entries run in order; an entry may use results of earlier ones only; the first result
 * that the entry does not accept ends the batch, with that entry's index in nr_done.
 */
#include <asm/errno.h>
#include <linux/futex.h>
#include <linux/signal.h>
#include <linux/uio.h>

#include "parasite.h"

static struct ckpt_entry *entries(struct ckpt_batch *batch)
{
        return (struct ckpt_entry *)(batch + 1);
}

static void resolve(const struct ckpt_session *session, struct ckpt_batch *batch,
                    const struct ckpt_entry *entry, uint64_t arg[CKPT_NR_ARGS])
{
        for (int i = 0; i < CKPT_NR_ARGS; i++) {
                uint64_t value = entry->arg[i];

                if (entry->kind[i] == CKPT_ARG_DATA)
                        value += session->data;
                else if (entry->kind[i] == CKPT_ARG_RESULT)
                        value = (uint64_t)entries(batch)[value].result;
                else if (entry->kind[i] == CKPT_ARG_LOAD32)
                        value = (uint64_t)(int64_t)*(int32_t *)(session->data + value);
                else if (entry->kind[i] == CKPT_ARG_LOAD64)
                        value = *(uint64_t *)(session->data + value);
                arg[i] = value;
        }
}

static long call(uint32_t nr, const uint64_t arg[CKPT_NR_ARGS])
{
        return ckpt_syscall(nr, (long)arg[0], (long)arg[1], (long)arg[2], (long)arg[3],
                            (long)arg[4], (long)arg[5]);
}

/* Drop the first `done` bytes of an iovec; returns how many of its elements are used up. */
static uint64_t advance(struct iovec *iov, uint64_t nr, uint64_t done)
{
        uint64_t used = 0;

        while (used < nr && done >= iov[used].iov_len)
                done -= iov[used++].iov_len;
        if (used < nr) {
                iov[used].iov_base = (char *)iov[used].iov_base + done;
                iov[used].iov_len -= done;
        }
        return used;
}

/* A controller that died while it read from us: its SIGPIPE must not outlive the session. Whoever
 * computed the batch has made sure that none was pending before. */
static void forget_sigpipe(void)
{
        uint64_t sigpipe = 1ULL << (SIGPIPE - 1);
        uint64_t at_once[2] = {0, 0};

        ckpt_syscall(__NR_rt_sigtimedwait, (long)&sigpipe, 0, (long)at_once, sizeof(sigpipe), 0, 0);
}

static long call_all(const struct ckpt_entry *entry, uint64_t arg[CKPT_NR_ARGS])
{
        long total = 0;

        while (arg[2]) {
                long n = call(entry->nr, arg);
                uint64_t used;

                if (n == -EPIPE)
                        forget_sigpipe();
                if (ckpt_is_error(n))
                        return n;
                if (n == 0)
                        break;
                total += n;
                used = advance((struct iovec *)arg[1], arg[2], (uint64_t)n);
                arg[1] += used * sizeof(struct iovec);
                arg[2] -= used;
                if (entry->flags & CKPT_OFFSET)
                        arg[3] += (uint64_t)n;
        }
        return total;
}

static long drain(const struct ckpt_entry *entry, const uint64_t arg[CKPT_NR_ARGS])
{
        long times = 0;

        while (!ckpt_is_error(call(entry->nr, arg)))
                times++;
        return times;
}

static void wake(uint32_t *word)
{
        ckpt_syscall(__NR_futex, (long)word, FUTEX_WAKE, 0x7fffffff, 0, 0, 0);
}

static long post(uint32_t *word, uint32_t n)
{
        uint32_t now = __atomic_add_fetch(word, n, __ATOMIC_SEQ_CST);

        wake(word);
        return now;
}

static long wait_for(uint32_t *word, uint32_t at_least)
{
        for (;;) {
                uint32_t now = __atomic_load_n(word, __ATOMIC_SEQ_CST);

                if (now >= at_least)
                        return now;
                ckpt_syscall(__NR_futex, (long)word, FUTEX_WAIT, now, 0, 0, 0);
        }
}

static long execute(const struct ckpt_entry *entry, uint64_t arg[CKPT_NR_ARGS])
{
        switch (entry->op) {
        case CKPT_OP_CALL:
                return call(entry->nr, arg);
        case CKPT_OP_CALL_ALL:
                return call_all(entry, arg);
        case CKPT_OP_CLONE:
                return ckpt_clone((void *)arg[0], arg[1], (struct ckpt_session *)arg[2],
                                  (struct ckpt_session *)arg[3]);
        case CKPT_OP_COPY:
                ckpt_copy((void *)arg[0], (const void *)arg[1], arg[2]);
                return 0;
        case CKPT_OP_WAIT:
                return wait_for((uint32_t *)arg[0], (uint32_t)arg[1]);
        case CKPT_OP_POST:
                return post((uint32_t *)arg[0], (uint32_t)arg[1]);
        case CKPT_OP_DRAIN:
                return drain(entry, arg);
        default:
                return -ENOSYS;
        }
}

static int accepted(const struct ckpt_entry *entry)
{
        if (entry->flags & CKPT_ANY)
                return 1;
        if (entry->also && entry->result == -(int64_t)entry->also)
                return 1;
        if (entry->flags & CKPT_EXACT)
                return entry->result == entry->want;
        return !ckpt_is_error(entry->result);
}

uint32_t ckpt_run(struct ckpt_session *session, struct ckpt_batch *batch, int64_t *result)
{
        uint64_t arg[CKPT_NR_ARGS];
        uint32_t i;

        *result = 0;
        for (i = 0; i < batch->nr; i++) {
                struct ckpt_entry *entry = entries(batch) + i;

                resolve(session, batch, entry, arg);
                *result = entry->result = execute(entry, arg);
                if (!accepted(entry))
                        break;
        }
        batch->nr_done = i;
        __atomic_store_n(&batch->done, 1, __ATOMIC_SEQ_CST);
        wake(&batch->done);
        return i;
}
