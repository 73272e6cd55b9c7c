/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Sets of pages as arrays of ranges. An operand is ascending and disjoint; its ranges may touch.
 * A result is the same with nothing that touches: one set has one form.
 */

enum ckpt_set_op {
        CKPT_SET_OR,
        CKPT_SET_AND,
        CKPT_SET_SUB,
};

/* a | b, a & b, a - b in one pass over both. Stores what the caller frees with ckpt_free() in
 * `*out`; returns the number of ranges. An operand that breaks the rule above gives a result
 * without meaning, and no harm. */
long ckpt_combine_sets(int op, const struct ckpt_extent *a, uint64_t nr_a,
                       const struct ckpt_extent *b, uint64_t nr_b, struct ckpt_extent **out);

/* 0 if `set` may be an operand: whole pages below 2^63, none empty, ascending, disjoint; else
 * -EINVAL. */
long ckpt_check_set(const struct ckpt_extent *set, uint64_t nr);
