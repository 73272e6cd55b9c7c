/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Where pages stand in a pages file: the n-th page of all, by address, is the n-th of the file. Not
 * for Python.
 */
#ifndef CKPT_PLACEMENT_H
#define CKPT_PLACEMENT_H

#include "native.h"

struct placement {
        struct ckpt_extent *at; /* ascending, disjoint */
        uint64_t *first;        /* number of the first page of each */
        uint64_t nr;
        uint64_t nr_pages;
};

#define NOWHERE UINT64_MAX

/* 0 or -ENOMEM; takes a copy. */
long placement_make(struct placement *to, const struct ckpt_extent *all, uint64_t nr);
void placement_free(struct placement *of);

/* Number of the page at `addr`, NOWHERE if there is none. `left`: how many follow it, itself
 * included, without a gap. */
uint64_t placement_find(const struct placement *of, uint64_t addr, uint64_t *left);

/* The same for one address after the other, where they ascend: `*at`, 0 at first, is where the last
 * one was found. */
uint64_t placement_next(const struct placement *of, uint64_t *at, uint64_t addr, uint64_t *left);

/* The address of page `number`, and how many follow it, itself included, without a gap. */
uint64_t placement_addr(const struct placement *of, uint64_t number, uint64_t *left);

/* The number of the first page at or above `addr`; `nr_pages` if there is none. */
uint64_t placement_above(const struct placement *of, uint64_t addr);

#endif
