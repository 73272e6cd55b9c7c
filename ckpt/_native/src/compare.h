/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Comparing pages that stand in two files.
 */

/* `nr_pages` pages at `at_a` of file `lfd_a` and at `at_b` of file `lfd_b`; -1 stands for zeros.
 * `nr_differ` is filled in. */
struct ckpt_pair {
        int64_t lfd_a;
        int64_t lfd_b;
        uint64_t at_a;
        uint64_t at_b;
        uint64_t nr_pages;
        uint64_t nr_differ;
};

/* Compare `nr` pairs. Returns 0, or -errno with the number of the pair that failed in `*failed`:
 * -ENODATA for a file that ends before its pages do. */
long ckpt_compare(struct ckpt_pair *pairs, uint64_t nr, uint64_t *failed);
