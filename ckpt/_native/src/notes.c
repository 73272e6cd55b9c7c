/* SPDX-License-Identifier: GPL-2.0-only */
#include "notes.h"

#include <stdlib.h>
#include <string.h>

static int by_start(const void *a, const void *b)
{
        const struct ckpt_extent *one = a, *other = b;

        return one->start < other->start ? -1 : one->start > other->start;
}

static long merge(struct ckpt_extent *ranges, uint64_t nr)
{
        long last = -1;

        for (uint64_t i = 0; i < nr; i++) {
                if (last >= 0 && ranges[i].start <= ranges[last].end) {
                        if (ranges[i].end > ranges[last].end)
                                ranges[last].end = ranges[i].end;
                } else {
                        ranges[++last] = ranges[i];
                }
        }
        return last + 1;
}

long notes_take(struct notes *from, struct ckpt_extent **out)
{
        uint64_t nr = from->nr;
        struct ckpt_extent *ranges = malloc((nr + 1) * sizeof(*ranges));

        *out = ranges;
        if (!ranges)
                return -ENOMEM;
        from->nr = 0;
        if (nr > NR_NOTES)
                return -EOVERFLOW;
        memcpy(ranges, from->at, nr * sizeof(*ranges));
        qsort(ranges, nr, sizeof(*ranges), by_start);
        return merge(ranges, nr);
}
