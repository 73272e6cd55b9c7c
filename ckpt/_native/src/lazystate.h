/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What a server of missing pages knows: the layout, and the journal after it (lazy.h). Not for
 * cffi.
 *
 * The journal is made of struct uffd_msg. A batch begins with a message of ours that names the
 * userfaultfd it was read from; what follows was put there by read(2). All behind the last one is
 * zero, so that a server that is killed inside of read(2) has still told its successor.
 *
 * Not guaranteed: events come in the order in which they were queued, which is not that in which
 * they happened where two threads of the target race with one another: a child that one thread
 * forks while another one moves memory may find zeros where that was or is.
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
        struct uffd_msg *journals[2];
        uint64_t at; /* the first free message of the journal */
};

/* Read layout and journal; 0 or -errno. */
long lazy_state_load(struct lazy_state *state, const struct ckpt_lazy_job *job);

/* Read what the userfaultfd of space number `space` has to say, and act on what is no fault; with
 * `one` a single message. The faults: *messages and how many, which stay valid until the next call;
 * -errno. -ENOTRECOVERABLE: memory was given back of which nobody can tell whose it is. */
long lazy_state_read(struct lazy_state *state, uint64_t space, int one, struct uffd_msg **messages);

/* The messages of the last lazy_state_read have been dealt with. */
void lazy_state_done(struct lazy_state *state);

/* Nothing is left to do for space number `space`: its userfaultfd is closed. */
void lazy_state_close(struct lazy_state *state, uint64_t space);

/* The layout as it is now into the other file, and an empty journal: valid by one store. */
long lazy_state_renew(struct lazy_state *state);

/* Missing pages of all objects. */
uint64_t lazy_state_shared(const struct lazy_state *state);

/* Missing pages in all spaces. */
uint64_t lazy_state_left(const struct lazy_state *state);

#endif
