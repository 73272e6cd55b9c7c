/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Files of hugetlbfs, which know neither SEEK_DATA nor write(2). `page` is the size of their pages.
 */

/* The whole pages of the first `size` bytes of `lfd` that hold anything but zeros, as offsets; a
 * hole reads as zeros, and stays a hole. It ends where no more pages are there, so that what was
 * reserved and never used costs nothing behind what was. The extents go to `*out` (ckpt_free);
 * returns how many. */
long ckpt_huge_data(int lfd, uint64_t size, uint64_t page, struct ckpt_extent **out);

/* Copy `len` bytes at `from_at` of the file `from` to `to_at` of `to`, through a mapping of our
 * own. -ENOMEM: no page was free; -EIO: `from` ends before that. */
long ckpt_huge_fill(int from, uint64_t from_at, int to, uint64_t to_at, uint64_t len,
                    uint64_t page);
