/* SPDX-License-Identifier: GPL-2.0-only
 *
 * A layout file (lazy.h): spaces, in their order, each with the runs that are missing; then the
 * changes of those that are restless (lazyorder.h), each as the place and pieces of one. Not for
 * cffi.
 */
#ifndef CKPT_LAZYLAYOUT_H
#define CKPT_LAZYLAYOUT_H

#include "lazystate.h"

/* Add what the file has; 0 or -errno, -EILSEQ or -EINVAL where that is damaged. */
long lazy_layout_load(struct lazy_state *state, int layout);

/* Write what is known, to the end of the file. */
long lazy_layout_write(const struct lazy_state *state, int to);

#endif
