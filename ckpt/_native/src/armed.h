/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Memory under write protection beyond what tracking needs, and pages files that are not written
 * from their beginning to their end.
 */

/* What of `in` is not write-protected, pages or not. */
long ckpt_find_unprotected(int pagemap, const struct ckpt_extent *in, uint64_t nr_in,
                           struct ckpt_extent **out);

/* Take the registrations of `in` back, one for each mapping, in `room` as ckpt_register_wp() has
 * it; 0 or -ESRCH. What can't be taken back goes with the userfaultfd. No
 * mapping is ever in two parts. `pagemap` may be -1, of an address space that can't be looked into:
 * then this stops who maps, unmaps and has page faults in the target, 24 ms/GiB. */
long ckpt_unregister_wp(int uffd, int pagemap, const struct ckpt_extent *in, uint64_t nr_in,
                        const struct ckpt_extent *room, uint64_t nr_room);

/* Copy `some`, part of `all`, from `mem` into the file `to`, which holds the pages of `all` in the
 * order of their addresses. */
long ckpt_copy_placed(int mem, const struct ckpt_extent *all, uint64_t nr_all,
                      const struct ckpt_extent *some, uint64_t nr_some, int to);
