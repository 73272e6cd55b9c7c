// refused: netlink "not read yet"
// unseen: netlink "not read yet"
/* A netlink socket with an answer of the kernel that nobody has read. */
#include "victim.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

int main(void)
{
        struct {
                struct nlmsghdr head;
                struct rtgenmsg body;
        } query = {{sizeof(query), RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {AF_UNSPEC}};
        int fd = CALL(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
        char answer[32768];

        CHECK(CALL(send(fd, &query, sizeof(query), 0)) == sizeof(query));
        ready_and_wait();
        CHECK(CALL(recv(fd, answer, sizeof(answer), MSG_DONTWAIT)) > 0);
        pass();
}
