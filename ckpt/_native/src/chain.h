/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Which set of a chain holds a page, from the pagemap images themselves. This is the fast way for
 * images that are as they should be: whatever is not, or is merely unusual, is declined by
 * -EILSEQ, and ckpt.images.chain finds out what it is, or does it the slow way.
 */

/* One pagemap image: its records behind the head, and the N of its pages-N.img. `nr_present` is
 * filled in: how many pages it has there; UINT64_MAX for an image that was not looked at, since
 * nothing was wanted of it. */
struct ckpt_pagemap {
        const uint8_t *data;
        uint64_t len;
        uint64_t pages;
        uint64_t nr_present;
};

/* Pages that stand together at `offset` of pages-`pages`.img of image number `layer`. */
struct ckpt_piece {
        uint64_t start;
        uint64_t end;
        uint64_t layer;
        uint64_t pages;
        uint64_t offset;
        uint64_t flags;
};

/* Every page of image 0 with its place in one of `nr` images, each the parent of the one before,
 * ascending, in `*out`, which the caller frees with ckpt_free(). Returns the number of pieces. */
long ckpt_resolve_chain(struct ckpt_pagemap *images, uint64_t nr, struct ckpt_piece **out);
