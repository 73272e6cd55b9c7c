/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What the blob's own files share. No libc: every function here is freestanding.
 */
#ifndef CKPT_PARASITE_H
#define CKPT_PARASITE_H

#include "wire_check.h"
#include "syscall.h"

/* Run `batch` to its end or to its first unexpected result. Returns nr_done; `*result` is the
 * result of the entry that ran last. */
uint32_t ckpt_run(struct ckpt_session *session, struct ckpt_batch *batch, int64_t *result);

/* Serve commands until told to leave or until the controller is gone. */
void ckpt_serve(struct ckpt_session *session);

/* First function of a task or thread that CKPT_OP_CLONE made, on the stack of `from`. */
void ckpt_child(struct ckpt_session *from, struct ckpt_session *to);

/* clone3(args, size); the child calls ckpt_child(from, to) on from->stack_top. In head.S. */
long ckpt_clone(void *args, size_t size, struct ckpt_session *from, struct ckpt_session *to);

/* Wait for ever. In head.S, at a place that the tracer knows. */
_Noreturn void ckpt_park(void);

static inline int ckpt_is_error(long result)
{
        return result < 0 && result >= -4095;
}

static inline void ckpt_copy(void *to, const void *from, size_t len)
{
        unsigned char *t = to;
        const unsigned char *f = from;

        while (len--)
                *t++ = *f++;
}

#endif
