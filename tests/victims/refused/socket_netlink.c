// refused: socket
/* A netlink socket. */
#include "victim.h"
#include <linux/netlink.h>
#include <sys/socket.h>

int main(void)
{
        CALL(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
        ready_and_wait();
        pass();
}
