// refused: unix in flight SCM_RIGHTS
/* A descriptor in flight, of which the socket is the only holder. */
#include "victim.h"
#include <sys/socket.h>

int main(void)
{
        union {
                struct cmsghdr head;
                char space[CMSG_SPACE(sizeof(int))];
        } control = {.head = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
        char byte = 'x';
        struct iovec part = {.iov_base = &byte, .iov_len = 1};
        struct msghdr message = {.msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = &control,
                                 .msg_controllen = sizeof(control)};
        int ends[2], sent = made_file("sent", 8, 7), got;
        uint64_t word;

        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
        memcpy(CMSG_DATA(&control.head), &sent, sizeof(sent));
        CHECK(CALL(sendmsg(ends[0], &message, 0)) == 1);
        close(sent);
        ready_and_wait();
        CHECK(CALL(recvmsg(ends[1], &message, 0)) == 1);
        memcpy(&got, CMSG_DATA(&control.head), sizeof(got));
        CHECK(CALL(read(got, &word, 8)) == 8 && word == pattern(7, 0));
        pass();
}
