/* SPDX-License-Identifier: GPL-2.0-only
 *
 * System V shared memory, in this process's own namespace. shmctl(2), shmget(2).
 */

struct ckpt_shm {
        uint32_t key, uid, gid, cuid, cgid;
        uint32_t mode; /* with CKPT_SHM_DEST and CKPT_SHM_LOCKED */
        uint64_t size;
        uint64_t nr_attached;
        int32_t creator; /* its pid */
        uint32_t
            huge; /* flags of shmget(2) for huge pages; nothing tells them of one that is there */
};

#define CKPT_SHM_DEST   01000 /* removed: it goes with its last user */
#define CKPT_SHM_LOCKED 02000

/* What segment `id` is. */
long ckpt_shm_look(int id, struct ckpt_shm *segment);

/* The id of the segment with this key, or -ENOENT. */
long ckpt_shm_find(uint32_t key);

/* Make a segment with this key, size, mode, owner and creator, and no other id than `id`: -EEXIST
 * where that, or the key, is taken. Writes /proc/sys/kernel/shm_next_id, which needs CAP_SYS_ADMIN
 * or CAP_CHECKPOINT_RESTORE. Nothing is left after a failure. */
long ckpt_shm_make(int id, const struct ckpt_shm *wanted);

/* Give an existing one this owner and mode, and lock it where the mode says so. */
long ckpt_shm_set(int id, const struct ckpt_shm *wanted);

long ckpt_shm_remove(int id);

/* Have the next object of a kind get this id: `file` is its /proc/sys/kernel/KIND_next_id. */
long ckpt_ask_for_id(const char *file, int id);

/* Who makes an object. `own_uid`, `own_gid` and `other` are filled in. */
struct ckpt_creator {
        uint32_t uid, gid;
        uint32_t own_uid, own_gid;
        int32_t other;
};

/* Have this thread's effective ids be those of a creator, and its own again; what it may do goes
 * with that. */
long ckpt_creator_become(struct ckpt_creator *creator);
long ckpt_creator_leave(const struct ckpt_creator *creator);
