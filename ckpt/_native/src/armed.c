/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include "uffd.h"

#include <stdlib.h>

#include "pagemap.h"
#include "placement.h"

#define PIECE     (16ULL << 20)
#define AT_A_TIME (256 * 1024)

static long add_range(void *to, const struct page_region *region)
{
        return extents_append(to, region->start, region->end, 1);
}

long ckpt_find_unprotected(int pagemap, const struct ckpt_extent *in, uint64_t nr_in,
                           struct ckpt_extent **out)
{
        struct extents to = {0};

        for (uint64_t i = 0; i < nr_in; i++) {
                /* This very mask is the kernel's fast way: 0.6 ms/GiB instead of 1.3. */
                struct scan what = {.all = PAGE_IS_WRITTEN, .told = PAGE_IS_WRITTEN};
                long err = ckpt_scan_regions(pagemap, in[i], &what, add_range, &to);

                if (err) {
                        free(to.at);
                        return err;
                }
        }
        *out = to.at;
        return (long)to.nr;
}

long ckpt_unregister_wp(int uffd, const struct ckpt_extent *in, uint64_t nr_in)
{
        for (uint64_t i = 0; i < nr_in; i++) {
                for (uint64_t at = in[i].start; at < in[i].end; at += PIECE) {
                        struct uffdio_range piece = {.start = at, .len = in[i].end - at};

                        if (piece.len > PIECE)
                                piece.len = PIECE;
                        if (ioctl(uffd, UFFDIO_UNREGISTER, &piece) < 0 && errno == ESRCH)
                                return -ESRCH;
                }
        }
        return 0;
}

static long copy_piece(int mem, char *buffer, uint64_t addr, size_t len, int to, off_t offset)
{
        while (len) {
                size_t want = len < AT_A_TIME ? len : AT_A_TIME;
                ssize_t got = pread(mem, buffer, want, (off_t)addr);

                if (got <= 0)
                        return got ? -errno : -EIO;
                for (ssize_t done = 0, n; done < got; done += n) {
                        n = pwrite(to, buffer + done, (size_t)(got - done), offset + done);
                        if (n <= 0)
                                return n ? -errno : -EIO;
                }
                addr += (uint64_t)got;
                offset += got;
                len -= (size_t)got;
        }
        return 0;
}

long ckpt_copy_placed(int mem, const struct ckpt_extent *all, uint64_t nr_all,
                      const struct ckpt_extent *some, uint64_t nr_some, int to)
{
        char *buffer = malloc(AT_A_TIME);
        struct placement place = {0};
        long err = buffer ? placement_make(&place, all, nr_all) : -ENOMEM;

        for (uint64_t i = 0; !err && i < nr_some; i++) {
                uint64_t left, first = placement_find(&place, some[i].start, &left);
                uint64_t len = some[i].end - some[i].start;

                if (first == NOWHERE || len > left * PAGE)
                        err = -ERANGE;
                else
                        err =
                            copy_piece(mem, buffer, some[i].start, len, to, (off_t)(first * PAGE));
        }
        placement_free(&place);
        free(buffer);
        return err;
}
