/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include "beside.h"

#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef SO_PEEK_OFF
#define SO_PEEK_OFF 42
#endif

#define OPTION_MAX 256
#define LABEL_MAX  256 /* of SO_PASSSEC */

struct peek {
        int fd;
        struct ckpt_queue *queue;
        long result;
};

/* What comes beside the bytes of one look. */
struct beside {
        struct ucred cred;
        uint32_t has_cred, nr_rights;
        int32_t rights[CKPT_RIGHTS_MAX];
};

static void take_beside(struct msghdr *head, struct beside *beside)
{
        beside->has_cred = beside->nr_rights = 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(head); c; c = CMSG_NXTHDR(head, c)) {
                if (c->cmsg_level != SOL_SOCKET)
                        continue;
                if (c->cmsg_type == SCM_CREDENTIALS) {
                        memcpy(&beside->cred, CMSG_DATA(c), sizeof(beside->cred));
                        beside->has_cred = 1;
                } else if (c->cmsg_type == SCM_RIGHTS) {
                        beside->nr_rights = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int32_t);
                        memcpy(beside->rights, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
                }
        }
}

static void drop(const int32_t *rights, uint32_t nr)
{
        for (uint32_t i = 0; i < nr; i++)
                close(rights[i]);
}

/* The bytes at the peek offset, as many as fit. -EAGAIN at the end of the queue. */
static long look(struct peek *peek, struct iovec *parts, size_t nr_parts,
                 struct ckpt_message *message, struct beside *beside)
{
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(struct ucred)) +
                           CMSG_SPACE(CKPT_RIGHTS_MAX * sizeof(int32_t)) + CMSG_SPACE(LABEL_MAX)];
        } control;
        struct msghdr head = {
            .msg_name = message->address,
            .msg_namelen = CKPT_ADDRESS_MAX,
            .msg_iov = parts,
            .msg_iovlen = nr_parts,
            .msg_control = &control,
            .msg_controllen = sizeof(control),
        };
        ssize_t got = recvmsg(peek->fd, &head, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (got < 0)
                return -errno;
        take_beside(&head, beside);
        if (head.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
                drop(beside->rights, beside->nr_rights);
                /* No descriptor is left for what is in flight. */
                return head.msg_flags & MSG_TRUNC ? -ENOBUFS : -EMFILE;
        }
        message->address_len = head.msg_namelen;
        return got;
}

static int look_from(struct peek *peek, uint64_t offset)
{
        int start = (int)offset;

        if (offset > INT32_MAX)
                return -ENOBUFS;
        return setsockopt(peek->fd, SOL_SOCKET, SO_PEEK_OFF, &start, sizeof(start)) ? -errno : 0;
}

/* Of `got` bytes of a stream, which end with a buffer that came with descriptors: how many came
 * before it. The kernel would tell of the descriptors whatever size is asked for. But it gives a
 * buffer whole or not at all, so where the last byte can't be stored, that buffer is left out. */
static long without_rights(struct peek *peek, uint64_t at, uint64_t got)
{
        struct iovec parts[] = {{peek->queue->buffer + at, got - 1}, {NULL, 1}};
        struct ckpt_message unused;
        struct beside beside;
        long err = look_from(peek, at);

        if (err)
                return err;
        err = look(peek, parts, 2, &unused, &beside);
        if (err > 0)
                drop(beside.rights, beside.nr_rights);
        return err == -EFAULT ? 0 : err;
}

static long keep(struct ckpt_queue *queue, uint64_t *i, const struct ckpt_message *message,
                 const struct beside *beside)
{
        if (*i == queue->nr || queue->nr_rights + message->nr_rights > queue->max_rights)
                return -ENOBUFS;
        queue->messages[*i] = *message;
        queue->messages[*i].has_cred = beside->has_cred;
        queue->messages[*i].pid = beside->cred.pid;
        queue->messages[*i].uid = beside->cred.uid;
        queue->messages[*i].gid = beside->cred.gid;
        memcpy(queue->rights + queue->nr_rights, beside->rights,
               message->nr_rights * sizeof(int32_t));
        queue->nr_rights += message->nr_rights;
        (*i)++;
        return 0;
}

/* One look, which is one message, or of a stream the two of them. Returns its bytes. */
static long peek_one(struct peek *peek, int stream, uint64_t at, uint64_t *i)
{
        struct ckpt_queue *queue = peek->queue;
        struct ckpt_message message = {0};
        struct beside beside = {0};
        struct iovec part = {queue->buffer + at, queue->size - at};
        long got = look(peek, &part, 1, &message, &beside);
        long before = 0, err = 0;

        if (got < 0)
                return got;
        if (at + (uint64_t)got == queue->size)
                err = -ENOBUFS;
        if (!err && stream && beside.nr_rights && got > 1) {
                before = without_rights(peek, at, (uint64_t)got);
                err = before < 0 ? before : look_from(peek, at + (uint64_t)got);
        }
        message.at = at;
        message.len = (uint64_t)before;
        if (!err && before)
                err = keep(queue, i, &message, &beside);
        message.at = at + (uint64_t)before;
        message.len = (uint64_t)(got - before);
        message.nr_rights = beside.nr_rights;
        if (!err)
                err = keep(queue, i, &message, &beside);
        if (err)
                drop(beside.rights, beside.nr_rights);
        return err ? err : got;
}

static long peek_all(struct peek *peek)
{
        uint64_t at = 0, i = 0;
        socklen_t len = sizeof(int);
        int kind;

        if (getsockopt(peek->fd, SOL_SOCKET, SO_TYPE, &kind, &len))
                return -errno;
        for (;;) {
                long got;

                if (peek->queue->wanted >= 0 && at >= (uint64_t)peek->queue->wanted)
                        return (long)i;
                got = peek_one(peek, kind == SOCK_STREAM, at, &i);
                if (got == -EAGAIN)
                        return (long)i;
                if (got < 0)
                        return got;
                at += (uint64_t)got;
        }
}

static int peek_and_undo(void *arg)
{
        struct peek *peek = arg;
        socklen_t len = sizeof(int);
        int before = -1;

        if (getsockopt(peek->fd, SOL_SOCKET, SO_PEEK_OFF, &before, &len)) {
                peek->result = -errno;
                return 0;
        }
        peek->queue->nr_rights = 0;
        peek->result = look_from(peek, 0);
        if (!peek->result)
                peek->result = peek_all(peek);
        if (peek->result < 0) {
                drop(peek->queue->rights, peek->queue->nr_rights);
                peek->queue->nr_rights = 0;
        }
        setsockopt(peek->fd, SOL_SOCKET, SO_PEEK_OFF, &before, sizeof(before));
        return 0;
}

long ckpt_peek_queue(int fd, struct ckpt_queue *queue)
{
        struct peek peek = {fd, queue, -EIO};
        long err = ckpt_beside(peek_and_undo, &peek, CLONE_FILES);

        return err ? err : peek.result;
}

long ckpt_get_options(int fd, const int32_t *keys, uint64_t nr, int32_t *lengths, uint8_t *data,
                      uint64_t size)
{
        uint64_t used = 0;

        for (uint64_t i = 0; i < nr; i++) {
                socklen_t length = OPTION_MAX;

                if (size - used < OPTION_MAX)
                        return -ENOBUFS;
                if (getsockopt(fd, keys[2 * i], keys[2 * i + 1], data + used, &length)) {
                        lengths[i] = -errno;
                        continue;
                }
                lengths[i] = (int32_t)length;
                used += length;
        }
        return (long)used;
}
