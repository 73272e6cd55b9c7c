// needs: cap_setuid
/* A pair made by one process, used by its children under other numbers, and what its ends show of
 * who made it (SO_PEERCRED). With SO_PASSCRED, each message has its sender. */
#include "victim.h"
#include <grp.h>
#include <sys/socket.h>

static int pair[2], told[2];
static pid_t maker;

static struct ucred shown(int fd)
{
        struct ucred peer;
        socklen_t length = sizeof(peer);

        CALL(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length));
        return peer;
}

static void by_nobody(void)
{
        gid_t groups[2] = {7, 9}, seen[8];
        socklen_t length = sizeof(seen);
        int own[2];

        close(pair[0]);
        int renumbered = CALL(fcntl(pair[1], F_DUPFD, 70));
        close(pair[1]);
        CALL(setgroups(2, groups));
        CALL(setresgid(65533, 65533, 65533));
        CALL(setresuid(65534, 65534, 65534));
        CALL(prctl(PR_SET_DUMPABLE, 1));
        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, own));
        tell(told[1]);
        wait_for("go");
        struct ucred peer = shown(own[0]);
        CHECK(peer.pid == getpid() && peer.uid == 65534 && peer.gid == 65533);
        CALL(getsockopt(own[1], SOL_SOCKET, SO_PEERGROUPS, seen, &length));
        CHECK(length == 8 && seen[0] == 7 && seen[1] == 9);
        peer = shown(renumbered);
        CHECK(peer.pid == maker && peer.uid == 0);
        hear(renumbered);
        tell(renumbered);
}

static void expect_from(pid_t pid)
{
        char byte, control[CMSG_SPACE(sizeof(struct ucred))];
        struct iovec part = {.iov_base = &byte, .iov_len = 1};
        struct msghdr message = {.msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = sizeof(control)};

        CHECK(CALL(recvmsg(pair[0], &message, 0)) == 1);
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        CHECK(head && head->cmsg_type == SCM_CREDENTIALS);
        struct ucred *sender = (struct ucred *)CMSG_DATA(head);
        if (sender->pid != pid)
                say("sender %d, wanted %d\n", sender->pid, pid);
        CHECK(sender->pid == pid);
}

static void sends(void)
{
        tell(pair[1]);
        tell(told[1]);
        wait_for("go");
}

int main(void)
{
        int on = 1;

        maker = getpid();
        CALL(pipe(told));
        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
        CALL(setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
        pid_t nobody = child(by_nobody);
        hear(told[0]);
        tell(pair[1]);
        pid_t sender = child(sends);
        hear(told[0]);
        tell(pair[1]);
        ready_and_wait();
        expect_from(maker);
        expect_from(sender);
        expect_from(maker);
        tell(pair[0]);
        expect_from(nobody);
        join_child(nobody);
        join_child(sender);
        pass();
}
