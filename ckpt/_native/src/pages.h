/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Finding and moving pages of other processes. Ranges are half open and page aligned; everything
 * moves in the order of the ranges, without a look at Python for each.
 */

struct ckpt_extent {
        uint64_t start;
        uint64_t end;
};

/* The pages inside `in` that hold content of their own: present or swapped, neither the zero page,
 * nor a page of the page cache, nor a guard. `pagemap` is /proc/PID/pagemap. Appends to `*out`,
 * which the caller frees with ckpt_free(); adjacent pages form one extent as long as they are in
 * one element of `in`. `anonymous`: no file is mapped there, which need not be asked of each page
 * then (five times as fast). Returns the number of extents. PAGEMAP_SCAN where the kernel has it,
 * else the words of pagemap, which don't tell the zero page from others. */
long ckpt_scan_pages(int pagemap, const struct ckpt_extent *in, uint64_t nr_in, int anonymous,
                     struct ckpt_extent **out);
void ckpt_free(void *memory);

/* The guard pages (MADV_GUARD_INSTALL) between two addresses: `*out` is always the caller's to
 * free. Returns how many extents; a kernel that does not report guards has none. */
long ckpt_scan_guards(int pagemap, uint64_t start, uint64_t end, struct ckpt_extent **out);

/* The sum of the lengths. */
uint64_t ckpt_extents_sum(const struct ckpt_extent *extent, uint64_t nr);

/* Write `nr` extents to `iov` as struct iovec (address and length, 16 bytes each); returns the sum
 * of the lengths. */
uint64_t ckpt_extents_to_iovec(const struct ckpt_extent *extent, uint64_t nr, void *iov);

/* Move `len` bytes from the pipe `from` to the file `to` at its position. Returns the bytes moved,
 * fewer than `len` if `sock` becomes readable or hangs up while the pipe is empty. `to` may be a
 * pipe too: one that is full is waited for, one without reader is EPIPE (with SIGPIPE ignored). */
long ckpt_splice(int from, int to, uint64_t len, int sock);

/* Copy all of `in` from `mem` (/proc/PID/mem: protections don't matter) to `to` at its position. */
long ckpt_copy_out(int mem, const struct ckpt_extent *in, uint64_t nr_in, int to);

/* Copy `len` bytes between files at given positions; returns 0. Holes of `from` stay holes where
 * `to` had nothing. */
long ckpt_copy_file(int from, uint64_t from_at, int to, uint64_t to_at, uint64_t len);

/* Which of the pages at `a` and `b` differ: appends runs [start, end) in units of pages, counted
 * from 0, to `*out`. Returns the number of runs. */
long ckpt_compare_pages(const void *a, const void *b, uint64_t nr_pages, struct ckpt_extent **out);
