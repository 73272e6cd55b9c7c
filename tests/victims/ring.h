/* SPDX-License-Identifier: GPL-2.0-only
 * A small ring of io_uring: one request at a time. */
#ifndef RING_H
#define RING_H

#include "victim.h"
#include <linux/io_uring.h>

#define RING_ENTRIES 8

struct ring {
        struct io_uring_params p;
        int fd;
        char *rings;
        struct io_uring_sqe *sqes;
        unsigned head;
};

UNUSED static struct ring new_ring(void)
{
        int access = PROT_READ | PROT_WRITE;
        struct ring r = {.fd = 0};

        r.fd = CALL(syscall(SYS_io_uring_setup, RING_ENTRIES, &r.p));
        r.rings = CALL(mmap(NULL, PAGE, access, MAP_SHARED, r.fd, IORING_OFF_SQ_RING));
        r.sqes = CALL(mmap(NULL, PAGE, access, MAP_SHARED, r.fd, IORING_OFF_SQES));
        return r;
}

static inline unsigned *ring_word(const struct ring *r, unsigned offset)
{
        return (unsigned *)(r->rings + offset);
}

/* A request that a worker of the kernel's makes, if `flags` say IOSQE_ASYNC. */
UNUSED static void ring_submit(const struct ring *r, struct io_uring_sqe request)
{
        unsigned tail = *ring_word(r, r->p.sq_off.tail);

        r->sqes[tail % RING_ENTRIES] = request;
        ring_word(r, r->p.sq_off.array)[tail % RING_ENTRIES] = tail % RING_ENTRIES;
        __atomic_store_n(ring_word(r, r->p.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
        CHECK(CALL(syscall(SYS_io_uring_enter, r->fd, 1, 0, 0, NULL, 0)) == 1);
}

static inline int ring_has(const struct ring *r)
{
        return __atomic_load_n(ring_word(r, r->p.cq_off.tail), __ATOMIC_ACQUIRE) != r->head;
}

/* What the next completion says. */
UNUSED static int ring_result(struct ring *r)
{
        const struct io_uring_cqe *cqes = (const void *)(r->rings + r->p.cq_off.cqes);

        while (!ring_has(r))
                if (syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
                        CHECK(errno == EINTR);
        int result = cqes[r->head % r->p.cq_entries].res;
        __atomic_store_n(ring_word(r, r->p.cq_off.head), ++r->head, __ATOMIC_RELEASE);
        return result;
}

#endif
