/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Waiting for tracees without spinning. Not for Python.
 *
 * The kernel tells a tracer of each stop by SIGCHLD. It is blocked from `begin` on, so that one
 * which comes between a look and the pause ends the pause. Where it does not come (ignored, or
 * taken by another thread of ours) pauses still end, each twice as long as the one before.
 */
#ifndef CKPT_STOPWAIT_H
#define CKPT_STOPWAIT_H

#include <signal.h>
#include <stdint.h>

struct stopwait {
        sigset_t before;
        int64_t until_ns;
        int64_t nap_ns;
        int taken;
        int woken; /* the last pause ended by a SIGCHLD */
};

void stopwait_begin(struct stopwait *wait, int64_t timeout_ns);
/* 0: look again; -ETIMEDOUT; -EINTR: a handler of ours ran. */
long stopwait_pause(struct stopwait *wait);
void stopwait_end(struct stopwait *wait);

#endif
