/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What the parts of the live snapshot share: live.c (life and order), livemm.c (one address space:
 * copying and unprotecting), liveshared.c (shared memory), liveevents.c (what a userfaultfd tells).
 * Not for Python.
 *
 * All of it is under `lock`, which is held for one step of work at a time, and inherits priority:
 * the server of faults has a high one.
 */
#ifndef CKPT_LIVESTATE_H
#define CKPT_LIVESTATE_H

#include "buffers.h"
#include "notes.h"
#include "placement.h"

#include <linux/userfaultfd.h>
#include <stdatomic.h>

#define PAGE      4096ULL
#define HUGE_PAGE (1ULL << 21)
#define STEP      64 /* pages that are copied without a look at faults */

/* A shared object is copied like an address space, with offsets for addresses and a descriptor of
 * it for /proc/PID/mem; a view is how one address space maps such objects, by a userfaultfd of its
 * own, and has nothing to copy itself. */
enum live_kind { LIVE_PRIVATE, LIVE_VIEW, LIVE_OBJECT };

struct live_mm {
        enum live_kind kind;
        long index;
        int pid; /* 0: of a view that was born as the child of another */
        int uffd;
        int mem;
        int pagemap;
        int fdinfo;
        int pages;   /* the pages file */
        int lent;    /* what is not written to stays protected: it is clean for the next snapshot */
        int covered; /* nothing loses its protection before it was copied */
        int gone;    /* exec, or the end */
        struct placement place;
        uint64_t *done; /* a bit for each page of `place` */
        uint64_t nr_left;
        uint64_t cursor;                    /* the sweep has been everywhere below this page */
        struct ckpt_extent clear;           /* copied by the sweep, not yet unprotected */
        struct notes *noted;                /* what has lost its protection before it was covered,
                                             * or its place */
        struct notes *displaced;            /* where memory has come to with its protection */
        uint64_t next;                      /* where the last run of faults ended */
        uint64_t run;                       /* its length in pages */
        struct ckpt_live_segment *segments; /* of a view, in no order */
        uint64_t nr_segments;
        long parent; /* of a view that was born, the one above all its parents; -1 of others. Its
                      * descriptors are ours to close: when it has ended, or if Python knows them,
                      * at the end of all */
        int known;
        int moved; /* a view that is not mapped any more as it was told */
};

struct ckpt_live {
        pthread_mutex_t lock;
        struct buffers buffers;
        struct live_mm **mms;
        uint64_t nr;
        unsigned percent; /* 0: no sweep yet */
        pthread_cond_t begun;
        int wake; /* eventfds */
        int over;
        atomic_int stopped;
        struct ckpt_live_figures figures;
};

/* The snapshot can't be whole any more. */
void live_lost(struct ckpt_live *live, const struct live_mm *mm, uint64_t addr);

/* With the lock: one more of what is copied or mapped; its index. */
long live_append(struct ckpt_live *live, const struct live_mm *like);

static inline void live_note(struct live_mm *mm, uint64_t start, uint64_t end)
{
        notes_add(mm->noted, start, end);
}

/* livemm.c. All of these return 0 or -errno of what can't be gone on with; -ESRCH: the address
 * space is gone. */

/* Copy what is left of `nr` pages from number `first` on, which have no gap between them and whose
 * first one is now at `addr`. `sure`: if not, they are lost. */
long live_copy(struct ckpt_live *live, struct live_mm *mm, uint64_t first, uint64_t nr,
               uint64_t addr, int sure);

/* Copy what is left of [start, end). */
long live_copy_left(struct ckpt_live *live, struct live_mm *mm, uint64_t start, uint64_t end,
                    int sure);

/* The same, counted in `saved_pages`. */
long live_save(struct ckpt_live *live, struct live_mm *mm, uint64_t start, uint64_t end, int sure);

/* Whether anything of [start, end) is left; the address of the first. */
int live_has_left(const struct live_mm *mm, uint64_t start, uint64_t end, uint64_t *addr);

/* Take the protection of a range; who waits there goes on. */
long live_unprotect(struct ckpt_live *live, struct live_mm *mm, uint64_t start, uint64_t end);

/* Whether all of a run is protected still: whatever took the place of moved or unmapped memory is
 * not. */
int live_is_protected(const struct live_mm *mm, uint64_t addr, uint64_t nr);

/* The address space is being changed, which goes on only when its event is read. */
int live_is_changing(const struct live_mm *mm);
long live_listen_again(struct ckpt_live *live, struct live_mm *mm);

/* One step of the sweep, which fills `to` and submits it: 1; or 0, and nothing is left. */
long live_sweep_step(struct ckpt_live *live, struct live_mm *mm, struct buffer *to);

/* A thread waits to write to `addr`. */
long live_fault(struct ckpt_live *live, struct live_mm *mm, uint64_t addr);

/* liveshared.c: what differs for objects, and for views. */
int live_share_is_protected(struct ckpt_live *live, const struct live_mm *object, uint64_t offset,
                            uint64_t nr);
int live_share_is_changing(const struct ckpt_live *live);
long live_share_listen(struct ckpt_live *live);
void live_share_unprotect(struct ckpt_live *live, const struct live_mm *object, uint64_t start,
                          uint64_t end);
long live_share_handle(struct ckpt_live *live, struct live_mm *view,
                       const struct uffd_msg *message);

/* A caller of madvise(2) gives [start, end) of a view back, as soon as its event is read. */
long live_share_save(struct ckpt_live *live, struct live_mm *view, uint64_t start, uint64_t end);

/* liveevents.c: all that the userfaultfd has to tell now. */
long live_listen(struct ckpt_live *live, struct live_mm *mm);

#endif
