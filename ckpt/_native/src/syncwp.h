/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The server of write-protect faults: the writing thread of the target waits for it.
 */

/* What was served. Written by the serving thread alone; a reader may see it a little late. */
struct ckpt_wp_served {
        uint64_t nr_faults;
        uint64_t nr_unprotected; /* pages */
        uint64_t nr_lost;        /* events that found the pipe full */
};

/* Serve faults of `uffd` until `stop` (an eventfd) becomes readable: 0, or -errno of what can't be
 * gone on with (-ESRCH: the mm is gone).
 *
 * Each fault takes the protection of its page. While faults go upwards page after page, a run of
 * twice as many as the last time, `run_max` at most: pages of a run that are then not written count
 * as written all the same. With a `run_max` of 1 only written pages lose their protection.
 *
 * `events`: -1, or a non-blocking pipe that gets a struct ckpt_extent for each fault, the pages
 * that lost their protection by it. */
long ckpt_serve_wp(int uffd, int stop, int events, uint64_t run_max, struct ckpt_wp_served *served);
