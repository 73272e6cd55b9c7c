/* SPDX-License-Identifier: GPL-2.0-only
 *
 * A process that ends a set of tasks when we die before we have told it not to.
 */

struct ckpt_guard {
        int32_t pid; /* of the guard: our child, without an exit signal (wait with __WALL) */
        int32_t lfd; /* a byte written here sends it away; end of file has it kill. Close-on-exec */
};

/* Start a guard over `nr` pidfds. It has left our session, so that what is sent to our group does
 * not reach it. */
long ckpt_guard_start(const int32_t *pidfds, uint64_t nr, struct ckpt_guard *guard);
