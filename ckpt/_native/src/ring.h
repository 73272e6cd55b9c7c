/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What a ring of io_uring says of itself only when it is asked often.
 */

/* The least of the groups below `nr` for which buffers are provided to the ring `fd`; -ENOENT:
 * there is none; another error where the kernel does not tell (before Linux 6.8). Nothing is
 * changed. */
long ckpt_ring_group(int fd, uint32_t nr);
