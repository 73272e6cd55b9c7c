/* Netlink sockets: new, bound to ports and groups, of several protocols, with a filter, and two
 * that talk to each other; one is asked by the kernel's answers before and after. */
#include "inet.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>

static struct sockaddr_nl name_of(int fd, int peer)
{
        struct sockaddr_nl name = {0};
        socklen_t size = sizeof(name);

        CALL((peer ? getpeername : getsockname)(fd, (struct sockaddr *)&name, &size));
        return name;
}

static int made(int type, int protocol, unsigned port, unsigned groups)
{
        struct sockaddr_nl name = {.nl_family = AF_NETLINK, .nl_pid = port, .nl_groups = groups};
        int fd = CALL(socket(AF_NETLINK, type, protocol));

        CALL(bind(fd, (struct sockaddr *)&name, sizeof(name)));
        return fd;
}

/* The kernel lists the links: that of loopback is among them. */
static void ask(int fd)
{
        struct {
                struct nlmsghdr head;
                struct rtgenmsg body;
        } query = {{sizeof(query), RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 7, 0}, {AF_UNSPEC}};
        char answer[32768];
        int links = 0;

        CHECK(CALL(send(fd, &query, sizeof(query), 0)) == sizeof(query));
        for (;;) {
                int length = (int)CALL(recv(fd, answer, sizeof(answer), 0));

                for (struct nlmsghdr *at = (void *)answer; NLMSG_OK(at, length);
                     at = NLMSG_NEXT(at, length)) {
                        CHECK(at->nlmsg_seq == 7 && at->nlmsg_type != NLMSG_ERROR);
                        if (at->nlmsg_type == NLMSG_DONE) {
                                CHECK(links > 0);
                                return;
                        }
                        links++;
                }
        }
}

static void exchange(int from, int to, unsigned port)
{
        struct sockaddr_nl sender;
        socklen_t size = sizeof(sender);
        char text[8] = "";

        CHECK(CALL(send(from, "hello", 6, 0)) == 6);
        CHECK(CALL(recvfrom(to, text, 8, 0, (struct sockaddr *)&sender, &size)) == 6);
        CHECK(!strcmp(text, "hello") && sender.nl_pid == port);
}

static unsigned members(int fd)
{
        unsigned words[8] = {0};
        socklen_t size = sizeof(words);

        CALL(getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, words, &size));
        return words[0] | words[1];
}

int main(void)
{
        struct sock_filter code[] = {{BPF_RET | BPF_K, 0, 0, 0xffff}};
        struct sock_fprog program = {1, code};
        unsigned base = 0x40000000u + (unsigned)getpid() * 16u;
        int fresh = CALL(socket(AF_NETLINK, SOCK_DGRAM | SOCK_NONBLOCK, NETLINK_GENERIC));
        int route = made(SOCK_RAW, NETLINK_ROUTE, 0, 0);
        int links = made(SOCK_RAW, NETLINK_ROUTE, base + 1, RTMGRP_IPV4_MROUTE);
        int far = made(SOCK_RAW, NETLINK_ROUTE, 0, 0);
        /* Not in every kernel, and never bound. */
        int audit = socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT);
        CHECK(audit >= 0 || errno == EPROTONOSUPPORT);
        int uevent = made(SOCK_DGRAM, NETLINK_KOBJECT_UEVENT, 0, 0);
        int pair[2] = {made(SOCK_RAW, NETLINK_USERSOCK, base + 2, 0),
                       made(SOCK_RAW, NETLINK_USERSOCK, base + 3, 0)};
        struct sockaddr_nl peer = {.nl_family = AF_NETLINK, .nl_pid = base + 3};
        unsigned port = name_of(route, 0).nl_pid;
        struct pollfd quiet = {.fd = links, .events = POLLIN};

        CALL(connect(pair[0], (struct sockaddr *)&peer, sizeof(peer)));
        peer.nl_pid = base + 2;
        CALL(connect(pair[1], (struct sockaddr *)&peer, sizeof(peer)));
        /* Groups that nobody sends to. */
        set(links, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_DECnet_ROUTE);
        set(far, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_MCTP_IFADDR);
        set(links, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);
        set(route, SOL_NETLINK, NETLINK_EXT_ACK, 1);
        set(uevent, SOL_SOCKET, SO_PASSCRED, 1);
        set(uevent, SOL_SOCKET, SO_RCVBUF, 65536);
        CALL(setsockopt(uevent, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)));
        ask(route);
        exchange(pair[0], pair[1], base + 2);
        unsigned joined = members(links), wide = members(far), shown = name_of(links, 0).nl_groups;

        ready_and_wait();
        CHECK(name_of(fresh, 0).nl_pid == 0 && get(fresh, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM);
        CHECK(get(fresh, SOL_SOCKET, SO_PROTOCOL) == NETLINK_GENERIC);
        CHECK(fcntl(fresh, F_GETFL) & O_NONBLOCK);
        if (audit >= 0) {
                CHECK(name_of(audit, 0).nl_pid == 0);
                CHECK(get(audit, SOL_SOCKET, SO_PROTOCOL) == NETLINK_AUDIT);
        }
        CHECK(name_of(route, 0).nl_pid == port && get(route, SOL_NETLINK, NETLINK_EXT_ACK) == 1);
        CHECK(get(route, SOL_SOCKET, SO_TYPE) == SOCK_RAW);
        CHECK(name_of(links, 0).nl_pid == base + 1 && members(links) == joined);
        CHECK(name_of(links, 0).nl_groups == shown && shown & RTMGRP_IPV4_MROUTE);
        CHECK(get(links, SOL_NETLINK, NETLINK_NO_ENOBUFS) == 1);
        CHECK(members(far) == wide && wide);
        CHECK(poll(&quiet, 1, 0) == 0);
        CHECK(get(uevent, SOL_SOCKET, SO_PASSCRED) == 1);
        CHECK(get(uevent, SOL_SOCKET, SO_RCVBUF) == 131072);
        struct sock_filter seen[4];
        socklen_t length = 4;
        CALL(getsockopt(uevent, SOL_SOCKET, SO_GET_FILTER, seen, &length));
        CHECK(length == 1 && !memcmp(seen, code, sizeof(code)));
        CHECK(name_of(pair[0], 1).nl_pid == base + 3 && name_of(pair[1], 1).nl_pid == base + 2);
        exchange(pair[0], pair[1], base + 2);
        exchange(pair[1], pair[0], base + 3);
        ask(route);
        ask(made(SOCK_RAW, NETLINK_ROUTE, 0, 0));
        pass();
}
