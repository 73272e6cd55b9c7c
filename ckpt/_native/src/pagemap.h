/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What /proc/PID/pagemap tells, in lists of ranges. Not for Python.
 */
#ifndef CKPT_PAGEMAP_H
#define CKPT_PAGEMAP_H

#include <linux/fs.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "grow.h"

#define PAGE 4096ULL

/* Debian 12's headers are older than the call; the numbers are include/uapi/linux/fs.h's. */
#ifndef PAGEMAP_SCAN
struct page_region {
        uint64_t start;
        uint64_t end;
        uint64_t categories;
};
struct pm_scan_arg {
        uint64_t size;
        uint64_t flags;
        uint64_t start;
        uint64_t end;
        uint64_t walk_end;
        uint64_t vec;
        uint64_t vec_len;
        uint64_t max_pages;
        uint64_t category_inverted;
        uint64_t category_mask;
        uint64_t category_anyof_mask;
        uint64_t return_mask;
};
#define PAGEMAP_SCAN        _IOWR('f', 16, struct pm_scan_arg)
#define PM_SCAN_WP_MATCHING (1 << 0)
#define PAGE_IS_WPALLOWED   (1 << 0)
#define PAGE_IS_WRITTEN     (1 << 1)
#define PAGE_IS_FILE        (1 << 2)
#define PAGE_IS_PRESENT     (1 << 3)
#define PAGE_IS_SWAPPED     (1 << 4)
#define PAGE_IS_PFNZERO     (1 << 5)
#define PAGE_IS_HUGE        (1 << 6)
#endif
#ifndef PAGE_IS_GUARD
#define PAGE_IS_GUARD (1 << 8)
#endif

/* What to scan for: masks of PAGEMAP_SCAN. */
struct scan {
        uint64_t flags;
        uint64_t without;
        uint64_t all;
        uint64_t any;
        uint64_t told;
};

/* Called for each region in ascending order; anything but 0 ends the scan. */
typedef long region_fn(void *context, const struct page_region *region);

/* One range by PAGEMAP_SCAN. PAGE_IS_GUARD is taken out of `what` on a kernel that does not know
 * it. -ENOTTY or -EINVAL: there is no such call. */
long ckpt_scan_regions(int pagemap, struct ckpt_extent in, struct scan *what, region_fn *each,
                       void *context);

/* Pages with content of their own, and those among them that are not write-protected; either list
 * may be absent. */
struct content {
        int pagemap;
        int has_scan;  /* starts as 1 */
        int anonymous; /* there are no pages of files */
        struct scan what;
        struct extents *populated;
        struct extents *written;
        uint64_t first_populated; /* of the range under way: nothing is merged with those before */
        uint64_t first_written;
};

/* The content of one range is appended to the lists, not merged with what they held. `flags` are of
 * PAGEMAP_SCAN, with `all` as a further condition. Where the call is missing and neither is set,
 * the words of pagemap tell (the zero page is not told from others then). */
long ckpt_find_content(struct content *to, struct ckpt_extent in, uint64_t flags, uint64_t all);

#endif
