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

/* Where memory has come to with its protection, noted by the server. NULL: no memory. */
struct ckpt_wp_moves;
struct ckpt_wp_moves *ckpt_wp_moves_new(void);
void ckpt_wp_moves_free(struct ckpt_wp_moves *moves);

/* What was moved since the last call, ascending and disjoint, in `*out`; returns the number of
 * ranges, or -EOVERFLOW if there were too many to remember. Whatever was moved by a thread that has
 * come back from its call is told. */
long ckpt_wp_moved(struct ckpt_wp_moves *moves, struct ckpt_extent **out);

/* Everybody who waits in a fault of `uffd` looks again, and is told to who reads it now. */
long ckpt_wake_all(int uffd);

/* Serve faults of `uffd` until `stop` (an eventfd) becomes readable: 0, or -errno of what can't be
 * gone on with (-ESRCH: the mm is gone).
 *
 * Each fault takes the protection of its page. While faults go upwards page after page, a run of
 * twice as many as the last time, `run_max` at most: pages of a run that are then not written count
 * as written all the same. With a `run_max` of 1 only written pages lose their protection.
 * Events are read, so that who waits for that goes on; moves are noted.
 *
 * `events`: -1, or a non-blocking pipe that gets a struct ckpt_extent for each fault, the pages
 * that lost their protection by it. */
long ckpt_serve_wp(int uffd, int stop, int events, uint64_t run_max, struct ckpt_wp_moves *moves,
                   struct ckpt_wp_served *served);
