/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Shared memory that comes late. Not for cffi.
 *
 * Each object is mapped by the server itself, and filled there: a page that has been put there is
 * there for everybody at once, whole, and whoever waits for it is woken. All mappings of it in the
 * tree have userfaultfds of their own, apart from those of private memory. Which page a fault
 * needs is told by where the mappings were; that serves to bring it first, and for no more:
 *
 * - a page of an object is never put there twice: what has been punched since would come back;
 * - a page that the images don't have is zero only where it is certain which one it is. Else, and
 *   where the fault is at no place that is known, all of the shared memory is brought first;
 * - so is it before any event is read. MADV_REMOVE takes pages from the object, MADV_DONTNEED from
 *   the mapping alone, and the event is the same; but its caller waits until it is read.
 *
 * When all is there the userfaultfds are closed, and the kernel does the rest.
 */
#ifndef CKPT_LAZYSHARE_H
#define CKPT_LAZYSHARE_H

#include "lazyserver.h"

/* Map the objects of which something is missing: 0 or -errno. */
long lazy_share_open(struct server *s);

/* Missing pages of all objects. */
uint64_t lazy_share_left(struct server *s);

/* Deal with what mappings of shared memory have to say: their faults, and of events that there are
 * any. */
long lazy_share_serve(struct server *s, uint64_t space);

/* The next piece that is to come before all others, as long as somebody waits for all: 0 or 1. */
int lazy_share_next(struct server *s, uint64_t nr_max, struct lazy_piece *piece, uint64_t *space);

/* Pages of an object are there. */
void lazy_share_wake(struct server *s, uint64_t object, uint64_t start, uint64_t end);

/* All pages of objects are there, if they are: let go of them. 0 or -errno. */
long lazy_share_settle(struct server *s);

#endif
