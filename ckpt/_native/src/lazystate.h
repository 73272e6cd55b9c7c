/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What a server of missing pages knows: the layout, and the journal after it (lazy.h). Not for
 * cffi.
 *
 * The journal is made of struct uffd_msg. A batch begins with a message of ours that names the
 * userfaultfd it was read from; what follows was put there by read(2). All behind the last one is
 * zero, so that a server that is killed inside of read(2) has still told its successor.
 *
 * Events come in the order in which they were queued; what is made of that is in lazyorder.h.
 */
#ifndef CKPT_LAZYSTATE_H
#define CKPT_LAZYSTATE_H

#include "lazyset.h"

#include <linux/userfaultfd.h>

struct lazy_state {
        const struct ckpt_lazy_job *job;
        struct lazy_space *spaces;
        uint64_t nr_spaces;
        uint64_t room;
        uint64_t nr_young;
        struct uffd_msg last; /* that moved memory */
        struct uffd_msg *journals[2];
        uint64_t at; /* the first free message of the journal */
};

/* Read layout and journal; 0 or -errno. */
long lazy_state_load(struct lazy_state *state, const struct ckpt_lazy_job *job);

/* Add a space, which is taken over; 0 or -ENOMEM. */
long lazy_state_add(struct lazy_state *state, struct lazy_space space);

/* Read one message of the userfaultfd of space number `space`. 1: a fault, in *fault; 0: none, or
 * an event, which was acted on; -errno. -ENOTRECOVERABLE: memory was given back of which nobody can
 * tell whose it is. */
long lazy_state_read(struct lazy_state *state, uint64_t space, struct uffd_msg *fault);

/* Whether space number `space` waits to be seen quiet: it has young children, or has changed. */
int lazy_state_restless(const struct lazy_state *state, uint64_t space);

/* It was seen quiet. */
void lazy_state_quiet(struct lazy_state *state, uint64_t space);

/* Nothing is left to do for space number `space`: its userfaultfd is closed. */
void lazy_state_close(struct lazy_state *state, uint64_t space);

/* The layout as it is now into the other file, and an empty journal: valid by one store. */
long lazy_state_renew(struct lazy_state *state);

/* Missing pages of all objects. */
uint64_t lazy_state_shared(const struct lazy_state *state);

/* Missing pages in all spaces. */
uint64_t lazy_state_left(const struct lazy_state *state);

#endif
