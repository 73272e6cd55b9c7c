/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include "uffd.h"

#include <stdlib.h>
#include <unistd.h>

#include "pagemap.h"
#include "placement.h"

#define PIECE     (16ULL << 20) /* who maps or unmaps memory of the target waits for each */
#define WAIT_US   50
#define NR_WAITS  200
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

static long unregister_one(int uffd, const struct ckpt_extent *in)
{
        struct uffdio_range range = {.start = in->start, .len = in->end - in->start};

        return ioctl(uffd, UFFDIO_UNREGISTER, &range) < 0 ? -errno : 0;
}

static long unprotect_region(void *uffd, const struct page_region *region)
{
        for (uint64_t at = region->start, end; at < region->end; at = end) {
                long err;

                end = region->end - at > PIECE ? at + PIECE : region->end;
                for (int i = 0; i < NR_WAITS; i++) {
                        err = uffd_protect(*(const int *)uffd, at, end - at, 0);
                        if (err != -EAGAIN)
                                break;
                        usleep(WAIT_US); /* for the event that is being served */
                }
                if (err == -ESRCH)
                        return err;
        }
        return 0;
}

static long found_one(void *unused, const struct page_region *region)
{
        (void)unused;
        (void)region;
        return 1;
}

/* Calls `each` for what is protected; that fails, or what `each` returned. */
static long each_protected(int pagemap, const struct ckpt_extent *in, region_fn *each,
                           void *context)
{
        struct scan what = {
            .without = PAGE_IS_WRITTEN,
            .any = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            .told = PAGE_IS_PRESENT,
        };

        return ckpt_scan_regions(pagemap, *in, &what, each, context);
}

/* What is registered with a userfaultfd of the target's own is refused: the kernel itself would let
 * us take its protection, and older ones its registration.
 *
 * The kernel walks through all page tables of a mapping that loses its write protection, holding
 * up the target: 24 ms/GiB. It does not when the mapping is registered for something else by then.
 * Who finds a page missing in that moment waits for the second call.
 *
 * A mark that were left in the page tables would be taken for protection when they are registered
 * the next time, and is not. A page that was moved to here meanwhile brings one. */
static long unregister_clean(int uffd, int pagemap, const struct ckpt_extent *in)
{
        long err = uffd_register(uffd, in, UFFDIO_REGISTER_MODE_WP);

        if (err)
                return err;
        if (pagemap < 0 || each_protected(pagemap, in, unprotect_region, &uffd))
                return unregister_one(uffd, in);
        err = uffd_register(uffd, in, UFFDIO_REGISTER_MODE_MISSING);
        if (err)
                return err;
        err = unregister_one(uffd, in);
        if (err || !each_protected(pagemap, in, found_one, NULL))
                return err;
        err = uffd_register(uffd, in, UFFDIO_REGISTER_MODE_WP);
        return err ? err : unregister_one(uffd, in);
}

static long unregister_each(int uffd, int pagemap, const struct ckpt_extent *in, uint64_t nr_in)
{
        long err = 0;

        for (uint64_t i = 0; i < nr_in && err != -ESRCH; i++)
                err = unregister_clean(uffd, pagemap, &in[i]);
        return err == -ESRCH ? err : 0;
}

long ckpt_unregister_wp(int uffd, int pagemap, const struct ckpt_extent *in, uint64_t nr_in,
                        const struct ckpt_extent *room, uint64_t nr_room)
{
        uint64_t done = 0;
        long err = nr_room ? 0 : unregister_each(uffd, pagemap, in, nr_in);

        for (uint64_t r = 0, nr; err != -ESRCH && r < nr_room; r++, done += nr) {
                nr = extents_below(in + done, nr_in - done, room[r].end);
                err = unregister_clean(uffd, pagemap, &room[r]);
                if (err && err != -ESRCH)
                        err = unregister_each(uffd, pagemap, in + done, nr);
        }
        return err == -ESRCH ? err : 0;
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
