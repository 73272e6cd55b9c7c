/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef CKPT_BESIDE_H
#define CKPT_BESIDE_H

/* Do `work` in a short-lived process that shares our memory, and what else `share` (CLONE_*) says,
 * and takes no signal: what it holds of anything else ends with it. What `work` finds goes where
 * `argument` points to. clone(2). */
long ckpt_beside(int (*work)(void *), void *argument, int share);

#endif
