/* SPDX-License-Identifier: GPL-2.0-only
 *
 * In which order a fork and other changes of mappings have happened. Not for cffi.
 *
 * Events come in the order in which they were queued. Where one thread of the target forks while
 * another moves or unmaps memory, it may have been the other way round: each is queued a moment
 * after it was done. Whether memory is at its old place or at its new one in the child is asked of
 * the child itself, by a request that fails in one way or another.
 *
 * - Told before the fork: those changes are kept that were told since the address space was seen
 *   quiet, which is: no change under way that is not known here. If the child has the old place and
 *   not the new one, the change is undone in it. What was unmapped, and is mapped in the parent
 *   again, was mapped again before the fork, as a thread does that shrinks a mapping, lets it grow
 *   and forks.
 * - Told after it: a child is young until its parent was seen quiet. It is not filled, its events
 *   are not read, and of its faults only those are served that need a page which is known. If it
 *   has the new place of a change that is told meanwhile, and not the old one, that is done in it
 *   as well.
 *
 * What was found is noted in the journal: a successor could not find it out any more. Memory that a
 * thread discards while another forks is discarded in the child if that was told first.
 *
 * Not guaranteed: where the old place is mapped anew meanwhile, by the growth of its neighbour,
 * which no event tells, the change may be taken for one after the fork.
 */
#ifndef CKPT_LAZYORDER_H
#define CKPT_LAZYORDER_H

#include "lazyset.h"

/* Missing memory that was in [from, from + len) is at `to`, or gone where that is LAZY_NOWHERE.
 * `pieces`: what was missing of it, where it was. */
struct lazy_change {
        uint64_t from;
        uint64_t to;
        uint64_t len;
        struct lazy_runs pieces;
};

struct lazy_changes {
        struct lazy_change *at;
        uint64_t nr;
        uint64_t room;
};

#define LAZY_NOWHERE (~0ULL)

/* Note a change that is about to be made in `space`. What is moved may hide what was there before,
 * whether or not something of it is missing. */
long lazy_change_note(struct lazy_space *space, uint64_t from, uint64_t to, uint64_t len);

/* The same, with its pieces, which are taken over. */
long lazy_change_add(struct lazy_space *space, struct lazy_change change);

void lazy_changes_forget(struct lazy_space *space);

/* `child` was born before change number `nr` of its parent. */
long lazy_change_undo(struct lazy_space *child, const struct lazy_space *parent, uint64_t nr);

/* Whether `child`, just told of, was born before change number `nr` of `parent`, asked
 * of the last one first; where it was, the change must be undone before the next one is asked of.
 * `before`: the answers so far, by number. That can't be told, and is not so, where a later change
 * that it was born after has touched the same places. */
int lazy_born_before(const struct lazy_space *child, const struct lazy_space *parent, uint64_t nr,
                     const uint8_t *before);

/* Whether `child`, young, was born after `change`, which was told since. */
int lazy_born_after(const struct lazy_space *child, const struct lazy_change *change);

#endif
