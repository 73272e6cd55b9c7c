/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Tracking the writes of another process by userfaultfd write protection, asynchronous or not.
 *
 * `uffd` and `pagemap` are bound to one mm. Everything works while the target runs. Protection is
 * never put where no page is, nor on pages without content of their own (the zero page, the page
 * cache): who writes to those gets a fresh page, which is not protected.
 */

/* Where the flags of ckpt_scan_written() differ. */
enum ckpt_scan_how {
        CKPT_SCAN_REARM = 1, /* protect what was written, in the same step; asynchronous uffds only,
                              * mappings without one are left out */
        CKPT_SCAN_WORDS = 2, /* do without PAGEMAP_SCAN, as kernels before 6.7 */
        CKPT_SCAN_ANONYMOUS = 4, /* there are no pages of files: 1.3 ms/GiB instead of 6.7 */
};

/* Two lists, each to be freed with ckpt_free(). */
struct ckpt_found {
        struct ckpt_extent *populated;
        uint64_t nr_populated;
        struct ckpt_extent *written;
        uint64_t nr_written;
};

/* Register each range of `in` for write protection; one that is registered already stays as it is.
 * Stores those that can't be had in `*refused` and returns their number. A range is refused whole:
 * give one per mapping. An mm that is gone refuses all.
 *
 * `room`: none where the target stands. Otherwise ranges that `in` is part of, with what was
 * unmapped around when the mappings were listed: one that has grown since is registered whole.
 * Two mappings would be made of it otherwise, and mremap(2) fails over the border. */
long ckpt_register_wp(int uffd, const struct ckpt_extent *in, uint64_t nr_in,
                      const struct ckpt_extent *room, uint64_t nr_room,
                      struct ckpt_extent **refused);

/* The pages of `in` with content of their own, and those of them that are not protected. */
long ckpt_scan_written(int pagemap, const struct ckpt_extent *in, uint64_t nr_in, int how,
                       struct ckpt_found *found);

/* What of `in` lies in mappings that are not registered for asynchronous protection, by any uffd:
 * stores the ranges, pages or not, in `*out` and returns their number. */
long ckpt_find_unregistered(int pagemap, const struct ckpt_extent *in, uint64_t nr_in,
                            struct ckpt_extent **out);

/* Protect exactly `in`; what is not there (any more) is left out, and what can't be had in time
 * where threads move memory without a pause. -ESRCH: the mm is gone. */
long ckpt_protect_wp(int uffd, const struct ckpt_extent *in, uint64_t nr_in);
