/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The birth of a restored tree's root.
 */

struct ckpt_spawn {
        int32_t pid;     /* wanted, or 0 for any */
        int32_t sock;    /* command socket: becomes CKPT_SEED_SOCK */
        int32_t seed;    /* the seed program */
        int32_t sibling; /* the child becomes our parent's child */
        int32_t timens;  /* a time namespace with these offsets (seconds, nanoseconds) */
        int64_t monotonic[2];
        int64_t boottime[2];
};

/* Start a seed. Returns its pid. Nothing changes for the caller and its later children. */
long ckpt_spawn_seed(const struct ckpt_spawn *spawn);

/* A new time namespace with the offsets of `spawn`, of which nothing else counts: a descriptor for
 * setns(2). Nobody is in it yet. */
long ckpt_time_namespace(const struct ckpt_spawn *spawn);
