/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"
#include "stopwait.h"

#include <string.h>
#include <sys/prctl.h>
#include <sys/user.h>
#include <time.h>

_Static_assert(sizeof(((struct ckpt_visit *)NULL)->stopped) == CKPT_REGS_SIZE, "registers");
_Static_assert(sizeof(struct user_regs_struct) == CKPT_REGS_SIZE, "registers");

#define LIMIT_NS     100000000LL
#define LAST_NAP_NS  5000000L
#define FIRST_NAP_NS 1L /* which is some microseconds: about as long as the calls take */
#define NAP_MORE_NS  10000L
#define ALL_SIGNALS  UINT64_MAX

static uint64_t reg(const uint8_t *regs, size_t offset)
{
        uint64_t value;

        memcpy(&value, regs + offset, sizeof(value));
        return value;
}

#define RIP  offsetof(struct user_regs_struct, rip)
#define RSP  offsetof(struct user_regs_struct, rsp)
#define UPTO offsetof(struct user_regs_struct, orig_rax)

static long put(const struct ckpt_visit_site *site, uint64_t addr, const void *from, size_t len)
{
        ssize_t done;

        ckpt_fault_point();
        done = pwrite(site->mem, from, len, (off_t)addr);
        if (done < 0)
                return -(long)errno;
        return (size_t)done == len ? 0 : -EFAULT;
}

static int stands_as(const uint8_t *now, const uint8_t *then)
{
        return !memcmp(now, then, UPTO) && reg(now, RSP) == reg(then, RSP);
}

/* The way home comes before the piece that leads there. */
static long prepare(const struct ckpt_visit_site *site, const struct ckpt_visit *visit,
                    const char *writes)
{
        const char *code = writes + visit->writes;
        const char *frame = code + site->code_len;
        uint8_t now[CKPT_REGS_SIZE];
        long err = ckpt_trace_get_regs(visit->tid, now);

        if (err)
                return err;
        if (!stands_as(now, visit->stopped))
                return -ESTALE;
        if (visit->xstate_len) {
                err = put(site, site->xstate, frame + site->frame_len, visit->xstate_len);
                if (!err)
                        err = put(site, site->frame, frame, site->frame_len);
        }
        return err ? err : put(site, site->code, code, site->code_len);
}

static long enter(struct ckpt_visit *visit)
{
        long err;

        visit->stage = CKPT_VISIT_INSIDE;
        err = ckpt_trace_set_regs(visit->tid, visit->entered);
        if (!err)
                err = ckpt_trace_set_sigmask(visit->tid, ALL_SIGNALS);
        return err ? err : ckpt_trace_cont(visit->tid, 0);
}

/* 1: it stands; 0: the time is over; else what is in the way. */
static long stand(int tid, struct stopwait *wait, int *disturbed)
{
        struct ckpt_stop stop = {.tid = tid};
        long err = 0;

        /* One whose group was stopped stands already: see ckpt_interrupt_many(). */
        ckpt_trace_look(&stop);
        if (stop.kind == CKPT_STOP_NONE)
                err = ckpt_trace_interrupt(tid);
        for (; !err; ckpt_trace_look(&stop)) {
                if (stop.kind == CKPT_STOP_INTERRUPT || stop.kind == CKPT_STOP_GROUP)
                        return 1;
                if (stop.kind != CKPT_STOP_NONE)
                        return -EINTR;
                err = stopwait_pause(wait);
                if (err == -EINTR) {
                        *disturbed = 1;
                        err = 0;
                }
        }
        return err == -ETIMEDOUT ? 0 : err;
}

static long come_back(const struct ckpt_visit_site *site, struct ckpt_visit *visit,
                      struct stopwait *wait, int *disturbed)
{
        struct timespec nap = {0, FIRST_NAP_NS};
        ssize_t done;
        long err;

        for (;;) {
                uint64_t rip;

                nanosleep(&nap, NULL);
                err = stand(visit->tid, wait, disturbed);
                if (err <= 0)
                        return err ? err : -ETIMEDOUT;
                err = ckpt_trace_get_regs(visit->tid, visit->after);
                if (err)
                        return err;
                rip = reg(visit->after, RIP);
                if (rip >= site->park && rip < site->park_end)
                        break;
                if (rip < site->code || rip >= site->code + site->code_len)
                        return -ETIMEDOUT;
                err = ckpt_trace_cont(visit->tid, 0);
                if (err)
                        return err;
                if (nap.tv_nsec < LAST_NAP_NS)
                        nap.tv_nsec = 2 * nap.tv_nsec + NAP_MORE_NS;
        }
        err = ckpt_trace_set_sigmask(visit->tid, visit->sigmask);
        if (!err)
                err = ckpt_trace_set_regs(visit->tid, visit->stopped);
        if (err)
                return err;
        visit->stage = CKPT_VISIT_BACK;
        done = pread(site->mem, visit->answers, site->answers_len, (off_t)site->answers);
        return done == (ssize_t)site->answers_len ? 0 : -EFAULT;
}

static long visit_one(const struct ckpt_visit_site *site, struct ckpt_visit *visit,
                      const void *writes, int *disturbed)
{
        struct stopwait wait;
        long err = prepare(site, visit, writes);

        if (!err)
                err = enter(visit);
        if (err)
                return err;
        stopwait_begin(&wait, LIMIT_NS);
        err = come_back(site, visit, &wait, disturbed);
        stopwait_end(&wait);
        return err;
}

uint64_t ckpt_visit_threads(const struct ckpt_visit_site *site, struct ckpt_visit *visits,
                            uint64_t nr, const void *writes)
{
        /* The kernel adds the slack of the caller, 50 us, to each nap. */
        int slack = prctl(PR_GET_TIMERSLACK);
        int disturbed = 0;
        uint64_t done = 0;

        prctl(PR_SET_TIMERSLACK, 1);
        while (done < nr && !disturbed) {
                visits[done].result = (int32_t)visit_one(site, &visits[done], writes, &disturbed);
                if (visits[done].stage != CKPT_VISIT_BACK)
                        break;
                done++;
        }
        prctl(PR_SET_TIMERSLACK, slack);
        return done;
}
