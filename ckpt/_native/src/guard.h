/* SPDX-License-Identifier: GPL-2.0-only
 *
 * A process that ends a set of tasks, or removes a set of names, of segments of shared memory, of
 * semaphores or message queues, when we die before we have told it not to.
 */

struct ckpt_guard {
        int32_t pid; /* of the guard: our child, without an exit signal (wait with __WALL) */
        int32_t lfd; /* a byte written here sends it away; end of file has it act. Close-on-exec */
};

/* Bytes that a guard over tasks writes to its verdict when it is done. */
#define CKPT_GUARD_LET_GO 76
#define CKPT_GUARD_KILLED 75

/* Start a guard over `nr` pidfds. It has left our session, so that what is sent to our group does
 * not reach it. `verdict`: a descriptor into which it says in the end what came of the tasks, -1
 * for none. */
long ckpt_guard_start(const int32_t *pidfds, uint64_t nr, int32_t verdict,
                      struct ckpt_guard *guard);

/* Start a guard over `nr` names of files in directories `dirs`: they are removed if they are there.
 * The names are copied. */
long ckpt_guard_names(const int32_t *dirs, const char *const *names, uint64_t nr,
                      struct ckpt_guard *guard);

/* Start a guard over `nr` ids of System V shared memory: those are removed that this process has
 * made. */
long ckpt_guard_segments(const int32_t *ids, uint64_t nr, struct ckpt_guard *guard);

/* A set of semaphores or a message queue (CKPT_SYSV_SEM, CKPT_SYSV_MSG) that shall be made. */
struct ckpt_mark {
        int32_t kind;
        int32_t id;
        uint32_t key;
        uint32_t begun; /* set before it is made, and not if that failed */
};

/* Start a guard over `nr` of them, in memory that it shares with us: those are removed that were
 * begun, as nothing else tells who has made one. */
long ckpt_guard_objects(const struct ckpt_mark *marks, uint64_t nr, struct ckpt_guard *guard);
