/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The command loop. One controller at the other end of a SEQPACKET socket; each command gets one
 * reply; end of file means that the controller is gone. While the loop runs all signals are
 * blocked, so no call here is interrupted other than by a tracer, and the kernel restarts those.
 */
#include <asm/errno.h>
#include <linux/signal.h>

#include "parasite.h"

#define MSG_NOSIGNAL 0x4000

static long receive(int sock, void *to, size_t len)
{
        long n;

        do {
                n = ckpt_syscall(__NR_recvfrom, sock, (long)to, (long)len, 0, 0, 0);
        } while (n == -EINTR);
        return n;
}

static int send(int sock, const void *from, size_t len)
{
        return ckpt_syscall(__NR_sendto, sock, (long)from, (long)len, MSG_NOSIGNAL, 0, 0) ==
               (long)len;
}

static int hello(const struct ckpt_session *session)
{
        struct ckpt_hello is = {
            .magic = CKPT_BLOB_MAGIC,
            .wire_hash = CKPT_WIRE_HASH,
            .version = CKPT_WIRE_VERSION,
            .pid = (int32_t)ckpt_syscall(__NR_gettid, 0, 0, 0, 0, 0, 0),
            .window = session->window,
        };

        return send(session->sock, &is, sizeof(is));
}

static int run(struct ckpt_session *session, const struct ckpt_command *command)
{
        struct ckpt_reply reply = {.seq = command->seq};

        reply.nr_done = ckpt_run(session, (struct ckpt_batch *)command->arg, &reply.result);
        return send(session->sock, &reply, sizeof(reply));
}

static void end_task(void)
{
        ckpt_syscall(__NR_kill, ckpt_syscall(__NR_getpid, 0, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0, 0);
        ckpt_syscall(__NR_exit_group, 1, 0, 0, 0, 0, 0);
}

static void leave(struct ckpt_session *session)
{
        int sock = session->sock;

        if (session->lent_fd >= 0)
                ckpt_syscall(__NR_close, session->lent_fd, 0, 0, 0, 0, 0);
        session->lent_fd = -1;
        if (session->leave_to)
                return;
        session->sock = -1;
        ckpt_syscall(__NR_close, sock, 0, 0, 0, 0, 0);
}

void ckpt_serve(struct ckpt_session *session)
{
        struct ckpt_command command;

        for (;;) {
                int ok = 0;

                if (receive(session->sock, &command, sizeof(command)) != sizeof(command)) {
                        if (session->on_eof == CKPT_EOF_EXIT)
                                end_task();
                        break;
                }
                if (command.what == CKPT_CMD_HELLO)
                        ok = hello(session);
                else if (command.what == CKPT_CMD_RUN)
                        ok = run(session, &command);
                else if (command.what == CKPT_CMD_LEAVE) {
                        session->told = 1;
                        break;
                }
                if (!ok) {
                        if (session->on_eof == CKPT_EOF_EXIT)
                                end_task();
                        break;
                }
        }
        leave(session);
        if (!session->leave_to)
                ckpt_park();
}

void ckpt_child(struct ckpt_session *from, struct ckpt_session *to)
{
        struct ckpt_session *session = from;
        int64_t result;

        if (to) {
                ckpt_copy(to, from, sizeof(*to));
                session = to;
        }
        if (session->batch)
                ckpt_run(session, (struct ckpt_batch *)session->batch, &result);
        if (session->sock >= 0)
                ckpt_serve(session);
        ckpt_park();
}
