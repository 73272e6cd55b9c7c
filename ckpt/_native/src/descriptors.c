/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#ifndef F_GETOWNER_UIDS
#define F_GETOWNER_UIDS 17
#endif
#define FDINFO_CHUNK 4096U
#define LONGEST_LINK 4096U

struct text {
        char *at;
        uint64_t used;
        uint64_t room;
};

static long reserve(struct text *text, uint64_t more)
{
        uint64_t room = text->room ? text->room : 65536;
        char *at;

        if (text->room - text->used >= more)
                return 0;
        while (room - text->used < more)
                room *= 2;
        if (room > UINT32_MAX)
                return -EFBIG;
        at = realloc(text->at, room);
        if (!at)
                return -ENOMEM;
        text->at = at;
        text->room = room;
        return 0;
}

/* Append the whole file to the text; the new bytes end with a zero that is not counted. */
static long read_info(int proc, const char *name, struct text *text, uint32_t *len)
{
        int fd = openat(proc, name, O_RDONLY | O_CLOEXEC);
        uint64_t start = text->used;
        ssize_t got = 1;
        long err;

        if (fd < 0)
                return -errno;
        do {
                err = reserve(text, FDINFO_CHUNK + 1);
                if (err)
                        break;
                got = read(fd, text->at + text->used, FDINFO_CHUNK);
                if (got < 0)
                        err = -errno;
                else
                        text->used += (uint64_t)got;
        } while (!err && got > 0);
        close(fd);
        if (!err)
                text->at[text->used] = 0;
        *len = (uint32_t)(text->used - start);
        return err;
}

/* The four lines that every kind has. Returns whether there are more of them, or -errno. */
static long parse_info(const char *info, struct ckpt_descriptor *out)
{
        static const char *const common[] = {"pos:", "flags:", "mnt_id:", "ino:"};
        int seen = 0;
        long more = 0;

        for (const char *line = info; *line;) {
                const char *end = strchr(line, '\n');
                int which = 0;

                if (!end)
                        return -EBADMSG;
                while (which < 4 && strncmp(line, common[which], strlen(common[which])) != 0)
                        which++;
                if (which < 4 && !more) {
                        const char *value = line + strlen(common[which]);

                        if (which == 0)
                                out->pos = strtoll(value, NULL, 10);
                        else if (which == 1)
                                out->flags = (uint32_t)strtoul(value, NULL, 8);
                        else if (which == 2)
                                out->mnt_id = (int32_t)strtol(value, NULL, 10);
                        seen |= 1 << which;
                } else {
                        more = 1;
                }
                line = end + 1;
        }
        return (seen & 7) == 7 ? more : -EBADMSG;
}

static long ask_owner(int pidfd, struct ckpt_descriptor *out)
{
        struct f_owner_ex owner = {0};
        uid_t uids[2] = {0, 0};
        long lfd = ckpt_pidfd_getfd(pidfd, (int)out->fd);

        if (lfd < 0)
                return lfd;
        if (!(out->flags & O_PATH)) {
                int signum = fcntl((int)lfd, F_GETSIG);

                if (signum < 0 || fcntl((int)lfd, F_GETOWN_EX, &owner) < 0 ||
                    (owner.pid && fcntl((int)lfd, F_GETOWNER_UIDS, uids) < 0)) {
                        long err = -errno;

                        close((int)lfd);
                        return err;
                }
                out->signum = signum;
                out->owner = owner.pid;
                out->owner_type = (uint32_t)owner.type;
                out->owner_uid = uids[0];
                out->owner_euid = uids[1];
        }
        close((int)lfd);
        return 0;
}

static int leads_back(const char *link, const struct stat *file)
{
        struct stat there;

        return link[0] == '/' &&
               !fstatat(AT_FDCWD, link, &there, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) &&
               there.st_dev == file->st_dev && there.st_ino == file->st_ino;
}

static long look(int proc, int pidfd, struct ckpt_descriptor *out, struct text *text)
{
        char name[32], by_number[64];
        struct statfs fs;
        struct stat st;
        ssize_t len;
        long err;

        snprintf(name, sizeof(name), "fdinfo/%u", out->fd);
        out->info_at = (uint32_t)text->used;
        err = read_info(proc, name, text, &out->info_len);
        if (err)
                return err;
        err = parse_info(text->at + out->info_at, out);
        if (err < 0)
                return err;
        if (!err) {
                text->used = out->info_at;
                out->info_len = 0;
        }
        snprintf(name, sizeof(name), "fd/%u", out->fd);
        err = reserve(text, LONGEST_LINK + 1);
        if (err)
                return err;
        if (fstatat(proc, name, &st, AT_NO_AUTOMOUNT))
                return -errno;
        out->link_at = (uint32_t)text->used;
        len = readlinkat(proc, name, text->at + text->used, LONGEST_LINK);
        if (len < 0)
                return -errno;
        text->at[text->used + (uint64_t)len] = 0;
        text->used += (uint64_t)len;
        out->link_len = (uint32_t)len;
        out->dev = st.st_dev;
        out->ino = st.st_ino;
        out->rdev = st.st_rdev;
        out->size = (uint64_t)st.st_size;
        out->mode = st.st_mode;
        out->nlink = (uint32_t)st.st_nlink;
        out->uid = st.st_uid;
        out->gid = st.st_gid;
        out->named = leads_back(text->at + out->link_at, &st);
        if (pidfd >= 0) {
                err = ask_owner(pidfd, out);
                if (err)
                        return err;
        }
        /* What has no path is told by its link, unless that looks like a path. */
        if (out->named || text->at[out->link_at] == '/') {
                snprintf(by_number, sizeof(by_number), "/proc/self/fd/%d/%s", proc, name);
                if (statfs(out->named ? text->at + out->link_at : by_number, &fs))
                        return -errno;
                out->fs_type = (uint64_t)fs.f_type;
        }
        return 0;
}

long ckpt_look_descriptors(int proc, int pidfd, const int32_t *fds, uint64_t nr,
                           struct ckpt_descriptor *out, char **text)
{
        struct text grown = {0};
        long err = reserve(&grown, 1);

        for (uint64_t i = 0; i < nr && !err; i++) {
                memset(&out[i], 0, sizeof(out[i]));
                out[i].fd = (uint32_t)fds[i];
                out[i].error = (int32_t)look(proc, pidfd, &out[i], &grown);
                if (out[i].error == -ENOMEM || out[i].error == -EFBIG)
                        err = out[i].error;
        }
        if (err) {
                free(grown.at);
                return err;
        }
        *text = grown.at;
        return (long)grown.used;
}

/* Where in the ordered `known` (indices of slots) slot i belongs; *order is 0 if it is there. */
static uint64_t find(const struct ckpt_slot *slots, const uint32_t *known, uint64_t nr, uint64_t i,
                     long *order)
{
        uint64_t low = 0, high = nr;

        *order = 1;
        while (low < high) {
                uint64_t middle = low + (high - low) / 2;
                const struct ckpt_slot *other = &slots[known[middle]];

                *order = ckpt_kcmp(slots[i].pid, other->pid, KCMP_FILE, (unsigned long)slots[i].fd,
                                   (unsigned long)other->fd);
                if (*order <= 0)
                        return middle;
                if (*order == 1)
                        high = middle;
                else
                        low = middle + 1;
        }
        return low;
}

long ckpt_same_files(const struct ckpt_slot *slots, uint64_t nr, uint32_t *same)
{
        uint32_t *known;
        uint64_t nr_known = 0;
        long err = 0;

        if (nr > UINT32_MAX)
                return -EINVAL;
        known = malloc((nr ? nr : 1) * sizeof(*known));
        if (!known)
                return -ENOMEM;
        for (uint64_t i = 0; i < nr && !err; i++) {
                long order;
                uint64_t at = find(slots, known, nr_known, i, &order);

                if (order < 0) {
                        err = order;
                } else if (order == 0) {
                        same[i] = known[at];
                } else {
                        memmove(known + at + 1, known + at, (nr_known - at) * sizeof(*known));
                        known[at] = (uint32_t)i;
                        same[i] = (uint32_t)i;
                        nr_known++;
                }
        }
        free(known);
        return err;
}

long ckpt_tee(int from, int to, uint64_t len)
{
        return ckpt_result(tee(from, to, len, SPLICE_F_NONBLOCK));
}
