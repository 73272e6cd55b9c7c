/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Copying memory of a task that runs meanwhile, and whose mappings come and go under the copy.
 */

/* Copy what is there of `in` to the file `to` at its position, in order. Pages are read by
 * process_vm_readv(2) from `pid`, and where that can't (unreadable mappings) from `mem`,
 * /proc/PID/mem. A page that is not mapped any more is left out. Appends the pages that were copied
 * to `*out`, which the caller frees with ckpt_free(); returns the number of extents, or -ESRCH when
 * the address space of `mem` is gone. `done` is advanced by the bytes copied and may be watched. */
long ckpt_copy_running(int pid, int mem, const struct ckpt_extent *in, uint64_t nr_in, int to,
                       uint64_t *done, struct ckpt_extent **out);
