/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Filling missing pages of another address space. Not for cffi.
 */
#ifndef CKPT_LAZYFILL_H
#define CKPT_LAZYFILL_H

#include "native.h"

/* What became of pages: all of them are in one of these, up to where the filling has come. */
struct lazy_filled {
        uint64_t copied;
        uint64_t there; /* there was something already */
        uint64_t gone;  /* nothing is mapped there any more */
};

/* Put `nr` pages to `addr`, from `pages`, or zeros where that is NULL, and wake who waits for them.
 * `protect`: write-protected, so that the next write is seen. How many pages were dealt with: fewer
 * than `nr` where the address space is changing under us, and events must be read first; or
 * -errno: -ESRCH, the address space is gone; -EFAULT, `pages` can't be read. */
long lazy_fill(int uffd, uint64_t addr, const void *pages, uint64_t nr, int protect,
               struct lazy_filled *filled);

/* Take the write protection of a page, for a fault of that kind. */
long lazy_unprotect(int uffd, uint64_t addr);

/* How many faults of `uffd` nobody has read yet, which are read before any event; 0 where that
 * can't be told. */
unsigned long lazy_nr_faults(int uffd);

/* Whether no change of mappings is under way whose event has not been read, or acted on by its
 * caller. */
int lazy_quiet(int uffd);

/* Wake who waits for the page at `addr`: it faults again. */
void lazy_wake(int uffd, uint64_t addr);

/* Wake everybody. */
void lazy_wake_all(int uffd);

#endif
