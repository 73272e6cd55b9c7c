/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include "grow.h"
#include "pagemap.h"
#include "uffd.h"

#include <stdlib.h>

/* A written run may reach over mappings of which one is not ours (any more): it is protected in
 * parts then, down to pages, and with so many attempts at most. What is left out counts as written
 * the next time. */
/* Who maps or unmaps memory of the target waits for each request: 26 ms/GiB. */
#define PIECE (16ULL << 20)

#define NR_ATTEMPTS 256

/* Where threads do nothing but move and unmap memory, it is being changed nearly always. */
#define WAIT_US  50
#define NR_WAITS 2000

static long register_each(int uffd, const struct ckpt_extent *in, uint64_t nr_in,
                          struct extents *refused)
{
        for (uint64_t i = 0; i < nr_in; i++) {
                long err = uffd_register(uffd, &in[i], UFFDIO_REGISTER_MODE_WP);

                if (err == -EINVAL || err == -EBUSY || err == -EPERM || err == -ENOMEM)
                        err = extents_append(refused, in[i].start, in[i].end, 0);
                if (err)
                        return err;
        }
        return 0;
}

long ckpt_register_wp(int uffd, const struct ckpt_extent *in, uint64_t nr_in,
                      const struct ckpt_extent *room, uint64_t nr_room,
                      struct ckpt_extent **refused)
{
        struct extents to = {0};
        uint64_t done = 0;
        long err = nr_room ? 0 : register_each(uffd, in, nr_in, &to);

        for (uint64_t r = 0, nr; !err && r < nr_room; r++, done += nr) {
                nr = extents_below(in + done, nr_in - done, room[r].end);
                if (uffd_register(uffd, &room[r], UFFDIO_REGISTER_MODE_WP))
                        err = register_each(uffd, in + done, nr, &to);
        }
        if (err) {
                free(to.at);
                return err;
        }
        *refused = to.at;
        return (long)to.nr;
}

long ckpt_scan_written(int pagemap, const struct ckpt_extent *in, uint64_t nr_in, int how,
                       struct ckpt_found *found)
{
        const int rearm = how & CKPT_SCAN_REARM;
        struct extents populated = {0}, written = {0};
        struct content to = {
            .pagemap = pagemap,
            .has_scan = !(how & CKPT_SCAN_WORDS),
            .anonymous = how & CKPT_SCAN_ANONYMOUS,
            .populated = &populated,
            .written = &written,
        };
        long err = 0;

        /* With REARM everything populated matches, but only what was written is protected. */
        for (uint64_t i = 0; !err && i < nr_in; i++)
                err = ckpt_find_content(&to, in[i], rearm ? PM_SCAN_WP_MATCHING : 0,
                                        rearm ? PAGE_IS_WPALLOWED : 0);
        if (err) {
                free(populated.at);
                free(written.at);
                return err;
        }
        *found = (struct ckpt_found){populated.at, populated.nr, written.at, written.nr};
        return 0;
}

static long add_range(void *to, const struct page_region *region)
{
        return extents_append(to, region->start, region->end, 1);
}

long ckpt_find_unregistered(int pagemap, const struct ckpt_extent *in, uint64_t nr_in,
                            struct ckpt_extent **out)
{
        struct extents to = {0};

        for (uint64_t i = 0; i < nr_in; i++) {
                struct scan what = {.without = PAGE_IS_WPALLOWED, .told = PAGE_IS_WPALLOWED};
                long err = ckpt_scan_regions(pagemap, in[i], &what, add_range, &to);

                if (err) {
                        free(to.at);
                        return err;
                }
        }
        *out = to.at;
        return (long)to.nr;
}

static long protect(int uffd, uint64_t start, uint64_t end, int *attempts, int *waits)
{
        uint64_t middle;
        long err;

        /* EAGAIN: the mm is being changed, by a thread that waits until its event is read. */
        while ((err = uffd_protect(uffd, start, end - start, 1)) == -EAGAIN && *waits > 0) {
                --*waits;
                usleep(WAIT_US);
        }
        if (err == -EAGAIN)
                return 0;
        if (err != -ENOENT && err != -EINVAL)
                return err;
        if (--*attempts < 0 || end - start <= PAGE)
                return 0;
        middle = start + (end - start) / 2;
        middle &= middle >> 21 << 21 > start ? ~((1ULL << 21) - 1) : ~(PAGE - 1);
        err = protect(uffd, start, middle, attempts, waits);
        return err ? err : protect(uffd, middle, end, attempts, waits);
}

long ckpt_protect_wp(int uffd, const struct ckpt_extent *in, uint64_t nr_in)
{
        int waits = NR_WAITS;

        for (uint64_t i = 0; i < nr_in; i++) {
                for (uint64_t at = in[i].start, end; at < in[i].end; at = end) {
                        int attempts = NR_ATTEMPTS;
                        long err;

                        end = in[i].end - at < PIECE ? in[i].end : at + PIECE;
                        err = protect(uffd, at, end, &attempts, &waits);
                        if (err)
                                return err;
                }
        }
        return 0;
}
