/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Tests of the kernel that Python can't make: a child that must never see the interpreter.
 */

/* Have a child with the pid `pid` born and reaped, clone3(2) with set_tid. 0, or -EEXIST where the
 * number is taken. No signal is sent and the kernel's next pid stays what it was. */
long ckpt_probe_set_tid(int pid);

/* Have a child move its vdso, which is `len` bytes at `from`, to `to`. 0, or -errno of mremap(2).
 */
long ckpt_probe_move_vdso(uint64_t from, uint64_t len, uint64_t to);
