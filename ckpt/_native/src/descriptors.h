/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Looking at many descriptors of another process in one call, and telling which of them share one
 * open file description.
 */

/* What can be told of every kind of descriptor. Texts are at `*_at` of the text that comes with the
 * records, without a terminating zero. */
struct ckpt_descriptor {
        uint64_t dev;
        uint64_t ino;
        uint64_t rdev;
        uint64_t size;
        int64_t pos;
        uint64_t fs_type;
        uint32_t fd;
        uint32_t mode;
        uint32_t nlink;
        uint32_t uid;
        uint32_t gid;
        uint32_t flags; /* of the target's own descriptor, O_CLOEXEC included */
        int32_t mnt_id;
        int32_t error;  /* not 0: -errno, all else is void */
        int32_t signum; /* F_GETSIG */
        int32_t owner;  /* F_GETOWN_EX */
        int32_t named;  /* the link is a path that leads to this very file now */
        uint32_t owner_type;
        uint32_t owner_uid; /* F_GETOWNER_UIDS: with whose rights it signals */
        uint32_t owner_euid;
        uint32_t link_at;
        uint32_t link_len;
        uint32_t info_at; /* fdinfo, if it has more than pos, flags, mnt_id and ino */
        uint32_t info_len;
};

/* Fill `out[i]` for descriptor `fds[i]` of the process whose /proc directory is `proc`. With
 * `pidfd` -1 nothing is duplicated and signum, owner are 0; else each descriptor is duplicated for
 * as long as it is asked. A descriptor that can't be looked at has `error` and stops nothing.
 * `*text` is to be freed with ckpt_free(). Returns its size. */
long ckpt_look_descriptors(int proc, int pidfd, const int32_t *fds, uint64_t nr,
                           struct ckpt_descriptor *out, char **text);

struct ckpt_slot {
        int32_t pid;
        int32_t fd;
};

/* `same[i]` becomes the lowest index whose slot has the same open file description as slot i, by
 * kcmp(2). In order n log n. Returns 0. */
long ckpt_same_files(const struct ckpt_slot *slots, uint64_t nr, uint32_t *same);

/* Copy what is in a pipe without taking it out: `len` bytes at most into `to`, which is a pipe. */
long ckpt_tee(int from, int to, uint64_t len);
