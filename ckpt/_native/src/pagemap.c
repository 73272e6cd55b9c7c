/* SPDX-License-Identifier: GPL-2.0-only */
#include "pagemap.h"

#include <stdlib.h>

#define PM_PRESENT (1ULL << 63)
#define PM_SWAP    (1ULL << 62)
#define PM_FILE    (1ULL << 61)
#define PM_UFFD_WP (1ULL << 57)
#define PM_FRAME   ((1ULL << 55) - 1)

/* A swap entry is told as type and offset. Type 31 is a mark without a page; offset bit 0 is the
 * write protection that outlived its page in a file's mapping, others are poison and guards. */
#define SWAP_TYPE   31ULL
#define TYPE_MARKER 31ULL
#define MARKER_WP   (1ULL << 5)

#define NR_REGIONS 4096
#define NR_WORDS   4096

long ckpt_scan_regions(int pagemap, struct ckpt_extent in, struct scan *what, region_fn *each,
                       void *context)
{
        struct page_region *found = malloc(NR_REGIONS * sizeof(*found));
        struct pm_scan_arg arg = {
            .size = sizeof(arg),
            .flags = what->flags,
            .start = in.start,
            .end = in.end,
            .vec = (uintptr_t)found,
            .vec_len = NR_REGIONS,
            .category_inverted = what->without,
            .category_mask = what->all | what->without,
            .category_anyof_mask = what->any,
            .return_mask = what->told,
        };
        long err = found ? 0 : -ENOMEM;

        while (!err && arg.start < in.end) {
                long nr = ioctl(pagemap, PAGEMAP_SCAN, &arg);

                if (nr < 0 && errno == EINVAL && (what->without & PAGE_IS_GUARD)) {
                        what->without &= ~(uint64_t)PAGE_IS_GUARD;
                        arg.category_inverted &= ~(uint64_t)PAGE_IS_GUARD;
                        arg.category_mask &= ~(uint64_t)PAGE_IS_GUARD;
                        continue;
                }
                if (nr < 0 && errno == EINTR)
                        continue;
                if (nr < 0)
                        err = -errno;
                for (long i = 0; !err && i < nr; i++)
                        err = each(context, &found[i]);
                arg.start = arg.walk_end;
                /* Where the kernel filled its own buffer more than once and then came to the end,
                 * walk_end is where the buffer was full last, and not the end. */
                if (nr > 0 && found[nr - 1].end > arg.start)
                        arg.start = found[nr - 1].end;
        }
        free(found);
        return err;
}

static long add(struct extents *to, uint64_t first, uint64_t start, uint64_t end)
{
        return to ? extents_append(to, start, end, to->nr > first) : 0;
}

static long add_content(struct content *to, uint64_t start, uint64_t end, int written)
{
        long err = add(to->populated, to->first_populated, start, end);

        return err || !written ? err : add(to->written, to->first_written, start, end);
}

static int is_bare_marker(uint64_t word)
{
        return !(word & PM_PRESENT) && (word & PM_SWAP) && (word & SWAP_TYPE) == TYPE_MARKER &&
               (word & PM_FRAME) >> 5 << 5 == MARKER_WP;
}

/* One page by its word. `hidden` says what to think of one that the words don't show. */
static long add_word(struct content *to, uint64_t addr, uint64_t word, int hidden)
{
        int here = (word & (PM_PRESENT | PM_SWAP)) != 0;

        if ((!here && !hidden) || (word & PM_FILE) || is_bare_marker(word))
                return 0;
        /* Without privilege a swap entry is told as 0: it may be anything. */
        if (!here || (!(word & PM_PRESENT) && !(word & PM_FRAME)))
                return add_content(to, addr, addr + PAGE, 1);
        return add_content(to, addr, addr + PAGE, !(word & PM_UFFD_WP));
}

static long read_words(struct content *to, struct ckpt_extent in, int hidden)
{
        uint64_t words[NR_WORDS];

        for (uint64_t addr = in.start; addr < in.end;) {
                uint64_t nr = (in.end - addr) / PAGE;
                ssize_t got;

                if (nr > NR_WORDS)
                        nr = NR_WORDS;
                got = pread(to->pagemap, words, nr * 8, (off_t)(addr / PAGE * 8));
                if (got < 0)
                        return -errno;
                if (got == 0)
                        return -ESRCH;
                for (ssize_t i = 0; i < got / 8; i++, addr += PAGE) {
                        long err = add_word(to, addr, words[i], hidden);

                        if (err)
                                return err;
                }
        }
        return 0;
}

static long add_region(void *context, const struct page_region *region)
{
        const uint64_t clean = PAGE_IS_PRESENT | PAGE_IS_WRITTEN;
        struct content *to = context;

        if (!(region->categories & clean))
                return read_words(to, (struct ckpt_extent){region->start, region->end}, 1);
        return add_content(to, region->start, region->end,
                           (region->categories & PAGE_IS_WRITTEN) != 0);
}

long ckpt_find_content(struct content *to, struct ckpt_extent in, uint64_t flags, uint64_t all)
{
        long err;

        to->first_populated = to->populated ? to->populated->nr : 0;
        to->first_written = to->written ? to->written->nr : 0;
        if (to->has_scan) {
                if (!to->what.any)
                        to->what.without =
                            PAGE_IS_PFNZERO | PAGE_IS_GUARD | (to->anonymous ? 0 : PAGE_IS_FILE);
                to->what.any = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
                to->what.told = PAGE_IS_PRESENT | PAGE_IS_SWAPPED | PAGE_IS_WRITTEN;
                to->what.flags = flags;
                to->what.all = all;
                err = ckpt_scan_regions(to->pagemap, in, &to->what, add_region, to);
                if ((err != -ENOTTY && err != -EINVAL) || flags || all)
                        return err;
                to->has_scan = 0;
        }
        return read_words(to, in, 0);
}
