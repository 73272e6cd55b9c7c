/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Single system calls that Python's standard library has not.
 */

/* A duplicate of descriptor `fd` of the process behind `pidfd`; close-on-exec. pidfd_getfd(2). */
long ckpt_pidfd_getfd(int pidfd, int fd);

/* kcmp(2): 0 equal, 1 less, 2 greater, 3 unordered. `type` as in <linux/kcmp.h>. */
long ckpt_kcmp(int pid1, int pid2, int type, unsigned long idx1, unsigned long idx2);

/* Any system call, for what is used once and has no place of its own. */
long ckpt_call(long nr, unsigned long a, unsigned long b, unsigned long c, unsigned long d,
               unsigned long e, unsigned long f);

/* Read from or write to another process's memory in one piece; the count of bytes done. */
long ckpt_vm_read(int pid, uint64_t addr, void *to, size_t len);
long ckpt_vm_write(int pid, uint64_t addr, const void *from, size_t len);
