/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Ranges that something has happened to, in no order: for servers of userfaultfds, which must not
 * wait for memory. Not for cffi. The caller has a lock.
 */
#ifndef CKPT_NOTES_H
#define CKPT_NOTES_H

#include "native.h"

#define NR_NOTES 65536

struct notes {
        uint64_t nr; /* more than fit: not all are known */
        struct ckpt_extent at[NR_NOTES];
};

static inline void notes_add(struct notes *to, uint64_t start, uint64_t end)
{
        if (start >= end)
                return; /* shared memory was mapped a second time: mremap(2) of a length of 0 */
        if (to->nr < NR_NOTES)
                to->at[to->nr] = (struct ckpt_extent){start, end};
        to->nr += to->nr <= NR_NOTES;
}

/* Take all out: ascending and disjoint ranges in `*out`, to be freed with ckpt_free(); returns
 * their number. -ENOMEM: they stay. -EOVERFLOW: there were too many to remember. */
long notes_take(struct notes *from, struct ckpt_extent **out);

#endif
