/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Arrays of extents that grow, and whole writes: for the loops of this room, not for cffi.
 */
#ifndef CKPT_GROW_H
#define CKPT_GROW_H

#include "native.h"

struct extents {
        struct ckpt_extent *at;
        uint64_t nr;
        uint64_t room;
};

/* Add [start, end); with `merge`, to the last one where they touch. 0, -ENOMEM, or -ERANGE for what
 * is not above all that is there; `at` is the caller's to free. */
long extents_append(struct extents *to, uint64_t start, uint64_t end, int merge);

/* How many of these ascending ranges end at or below `end`. */
static inline uint64_t extents_below(const struct ckpt_extent *at, uint64_t nr, uint64_t end)
{
        uint64_t below = 0;

        while (below < nr && at[below].end <= end)
                below++;
        return below;
}

/* Write all of `from` at the position of `to`; 0 or -errno. */
long ckpt_write_all(int to, const char *from, size_t len);

#endif
