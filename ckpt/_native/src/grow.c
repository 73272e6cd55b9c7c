/* SPDX-License-Identifier: GPL-2.0-only */
#include "grow.h"

#include <stdlib.h>

long extents_append(struct extents *to, uint64_t start, uint64_t end, int merge)
{
        if (to->nr && to->at[to->nr - 1].end > start)
                return -ERANGE;
        if (merge && to->nr && to->at[to->nr - 1].end == start) {
                to->at[to->nr - 1].end = end;
                return 0;
        }
        if (to->nr == to->room) {
                uint64_t room = to->room ? 2 * to->room : 256;
                struct ckpt_extent *at = realloc(to->at, room * sizeof(*at));

                if (!at)
                        return -ENOMEM;
                to->at = at;
                to->room = room;
        }
        to->at[to->nr++] = (struct ckpt_extent){start, end};
        return 0;
}

long ckpt_write_all(int to, const char *from, size_t len)
{
        while (len) {
                ssize_t n = write(to, from, len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n ? -errno : -EIO;
                from += n;
                len -= (size_t)n;
        }
        return 0;
}
