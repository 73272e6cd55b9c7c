/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Which pages of an address space are missing: pure, not for cffi.
 *
 * Runs stay as they are while their pages come, or are given back: only bits are cleared. Memory
 * that moves makes the runs anew, of what is still missing.
 */
#ifndef CKPT_LAZYSET_H
#define CKPT_LAZYSET_H

#include "native.h"

#define LAZY_PAGE 4096ULL

struct lazy_runs {
        struct ckpt_lazy_run *at;
        uint64_t nr;
        uint64_t room;
};

struct lazy_space {
        int uffd; /* -1: there is nothing to do here any more */
        int pidfd;
        uint32_t flags;
        uint32_t object;
        uint64_t parent;              /* of a young child */
        int mute;                     /* of a young child: its events must wait */
        struct lazy_changes *changes; /* of a restless one, see lazyorder.h */
        uint64_t base;                /* of an object: where the server has mapped it */
        struct ckpt_lazy_run *runs;
        uint64_t *first; /* of each run the number of its first page */
        uint64_t nr_runs;
        uint64_t nr_pages;
        uint64_t nr_left;
        uint64_t *missing;       /* a bit for each page */
        uint64_t *asked;         /* of a stream, and not here yet */
        uint64_t sweep;          /* number of the page from which the background goes on */
        uint64_t near, near_end; /* neighbours of the last fault, addresses */
        uint64_t grow;           /* their number, in pages */
};

/* Pages [addr, addr + nr_pages) that stand together in their source, all missing. */
struct lazy_piece {
        uint64_t addr;
        uint64_t nr_pages;
        uint64_t source;
        uint64_t at;
};

/* Add a run; 0 or -ENOMEM. */
long lazy_runs_add(struct lazy_runs *to, struct ckpt_lazy_run run);

/* Make `space` of runs that ascend and don't overlap, all missing. What it had is not freed.
 * 0, -ENOMEM, -EINVAL. */
long lazy_space_make(struct lazy_space *space, const struct ckpt_lazy_run *runs, uint64_t nr);
void lazy_space_free(struct lazy_space *space);

/* Add to `to` what is missing. */
long lazy_space_missing(const struct lazy_space *space, struct lazy_runs *to);

/* Add to `to` what is missing of [start, end), as if it were `shift` bytes further on. */
long lazy_space_missing_in(const struct lazy_space *space, uint64_t start, uint64_t end,
                           uint64_t shift, struct lazy_runs *to);

/* What `more` has is missing as well, but where something is missing already. Of what overlaps in
 * `more` the first counts. */
long lazy_space_add(struct lazy_space *space, const struct lazy_runs *more);

/* Nothing of [start, end) is missing any more; how many pages were. */
uint64_t lazy_space_drop(struct lazy_space *space, uint64_t start, uint64_t end);

/* The memory [from, from + len) is at `to` now. */
long lazy_space_move(struct lazy_space *space, uint64_t from, uint64_t to, uint64_t len);

/* Where the run that has `addr` begins in its source, for that address; whether there is one and
 * it is missing. */
int lazy_space_find(const struct lazy_space *space, uint64_t addr, uint64_t *source, uint64_t *at);

/* Whether the page at `addr` is missing. */
int lazy_space_has(const struct lazy_space *space, uint64_t addr);

/* The first piece of at most `nr_max` pages in [start, end) that is missing, and not asked for
 * unless `again`; 0 if there is none. */
int lazy_space_next(const struct lazy_space *space, uint64_t start, uint64_t end, uint64_t nr_max,
                    int again, struct lazy_piece *piece);

/* The same for the background, which goes round; moves on behind the piece. */
int lazy_space_sweep(struct lazy_space *space, uint64_t nr_max, struct lazy_piece *piece);

/* Note that a piece was asked for, or not any more. */
void lazy_space_ask(struct lazy_space *space, uint64_t start, uint64_t end, int asked);

/* How many pages from `addr` on, at most `nr`, are missing and stand from `at` on in `source`. */
uint64_t lazy_space_matches(const struct lazy_space *space, uint64_t addr, uint64_t nr,
                            uint64_t source, uint64_t at);

#endif
