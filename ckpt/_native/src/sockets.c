/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#ifndef SO_PEEK_OFF
#define SO_PEEK_OFF 42
#endif

#define STACK_SIZE 65536

struct peek {
        int fd;
        uint8_t *buffer;
        uint64_t size;
        struct ckpt_message *messages;
        uint64_t nr;
        int64_t wanted;
        long result;
};

static void keep_credentials(struct msghdr *head, struct ckpt_message *message)
{
        for (struct cmsghdr *c = CMSG_FIRSTHDR(head); c; c = CMSG_NXTHDR(head, c))
                if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
                        struct ucred cred;

                        memcpy(&cred, CMSG_DATA(c), sizeof(cred));
                        message->has_cred = 1;
                        message->pid = cred.pid;
                        message->uid = cred.uid;
                        message->gid = cred.gid;
                }
}

/* -EAGAIN at the end of the queue. */
static long peek_one(struct peek *peek, uint64_t at, struct ckpt_message *message)
{
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(struct ucred))];
        } control;
        struct iovec part = {.iov_base = peek->buffer + at, .iov_len = peek->size - at};
        struct msghdr head = {
            .msg_name = message->address,
            .msg_namelen = CKPT_ADDRESS_MAX,
            .msg_iov = &part,
            .msg_iovlen = 1,
            .msg_control = &control,
            .msg_controllen = sizeof(control),
        };
        ssize_t got = recvmsg(peek->fd, &head, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (got < 0)
                return -errno;
        if (head.msg_flags & MSG_TRUNC)
                return -ENOBUFS;
        message->at = at;
        message->len = (uint64_t)got;
        message->address_len = head.msg_namelen;
        keep_credentials(&head, message);
        return got;
}

static long peek_all(struct peek *peek)
{
        uint64_t at = 0;

        for (uint64_t i = 0;; i++) {
                struct ckpt_message message = {0};
                long got;

                if (peek->wanted >= 0 && at >= (uint64_t)peek->wanted)
                        return (long)i;
                got = peek_one(peek, at, &message);
                if (got == -EAGAIN)
                        return (long)i;
                if (got < 0)
                        return got;
                if (i == peek->nr || at + (uint64_t)got == peek->size)
                        return -ENOBUFS;
                peek->messages[i] = message;
                at += (uint64_t)got;
        }
}

static int peek_and_undo(void *arg)
{
        struct peek *peek = arg;
        socklen_t len = sizeof(int);
        int before = -1, start = 0;

        if (getsockopt(peek->fd, SOL_SOCKET, SO_PEEK_OFF, &before, &len) ||
            setsockopt(peek->fd, SOL_SOCKET, SO_PEEK_OFF, &start, sizeof(start))) {
                peek->result = -errno;
                return 0;
        }
        peek->result = peek_all(peek);
        setsockopt(peek->fd, SOL_SOCKET, SO_PEEK_OFF, &before, sizeof(before));
        return 0;
}

long ckpt_peek_queue(int fd, uint8_t *buffer, uint64_t size, struct ckpt_message *messages,
                     uint64_t nr, int64_t wanted)
{
        struct peek peek = {fd, buffer, size, messages, nr, wanted, -EIO};
        sigset_t all, before;
        char *stack = malloc(STACK_SIZE);
        pid_t pid;
        long err = 0;

        if (!stack)
                return -ENOMEM;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        pid = clone(peek_and_undo, stack + STACK_SIZE, CLONE_VM | CLONE_VFORK | CLONE_FILES, &peek);
        if (pid < 0)
                err = -errno;
        else
                while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
                        ;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        free(stack);
        return err ? err : peek.result;
}
