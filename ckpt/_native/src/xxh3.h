/* SPDX-License-Identifier: GPL-2.0-only
 *
 * XXH3-64 of a long input that comes by and by. Not for cffi.
 */
#ifndef CKPT_XXH3_H
#define CKPT_XXH3_H

#include "native.h"

struct xxh3 {
        uint64_t lanes[8];
        uint64_t done; /* bytes that are in the lanes */
};

void xxh3_begin(struct xxh3 *sum);

/* The first `there` of the `len` bytes at `data` have come; those that were there before are as
 * they were. `len` is at least 241. */
void xxh3_more(struct xxh3 *sum, const void *data, uint64_t there, uint64_t len);

/* All of them have come: the sum. */
uint64_t xxh3_end(struct xxh3 *sum, const void *data, uint64_t len);

#endif
