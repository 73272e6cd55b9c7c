// refused: ptmx "another devpts"
// needs: cap_sys_admin
/* A master of a devpts that is mounted elsewhere: its number is one there only. */
#include "pty.h"
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>

static int ends[2];

/* In a mount namespace that ends with this child. */
static void send_master(void)
{
        char control[CMSG_SPACE(sizeof(int))] = "", byte = 'x';
        struct iovec one = {.iov_base = &byte, .iov_len = 1};
        struct msghdr message = {.msg_iov = &one,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = sizeof(control)};
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);

        CALL(unshare(CLONE_NEWNS));
        CALL(mount("", "/", "", MS_REC | MS_PRIVATE, ""));
        CALL(mkdir(in_folder("pts"), 0700));
        CALL(mount("devpts", in_folder("pts"), "devpts", 0, "ptmxmode=666"));
        int master = CALL(open(in_folder("pts/ptmx"), O_RDWR | O_NOCTTY));
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(rights), &master, sizeof(int));
        CHECK(CALL(sendmsg(ends[0], &message, 0)) == 1);
}

int main(void)
{
        char control[CMSG_SPACE(sizeof(int))], byte;
        struct iovec one = {.iov_base = &byte, .iov_len = 1};
        struct msghdr message = {.msg_iov = &one,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = sizeof(control)};
        int master, number;

        CALL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
        join_child(child(send_master));
        CHECK(CALL(recvmsg(ends[1], &message, MSG_CMSG_CLOEXEC)) == 1);
        memcpy(&master, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
        close(ends[0]);
        close(ends[1]);
        ready_and_wait();
        CALL(ioctl(master, TIOCGPTN, &number));
        CHECK(number == 0);
        pass();
}
