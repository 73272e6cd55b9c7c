// SPDX-License-Identifier: GPL-2.0-only
/*
 * messages [DUTY...]: messages that go from one process to another without a pause, each with its
 * number and what belongs to it: borders, senders' credentials, descriptors in flight. And
 * connections that are made and ended all the time.
 */
#include "traffic.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#define MOST 1500

struct message {
        uint64_t nr;
        char rest[MOST];
};

static size_t size_of(uint64_t nr)
{
        return sizeof(uint64_t) * (1 + pattern(5, nr) % (MOST / 8));
}

static size_t make(struct message *m, uint64_t nr)
{
        size_t bytes = size_of(nr);

        m->nr = nr;
        fill(m->rest, bytes - sizeof(m->nr), nr);
        return bytes;
}

static void expect(const struct message *m, uint64_t nr, ssize_t got)
{
        if (got != (ssize_t)size_of(nr) || m->nr != nr)
                say("message %lu of %zd bytes, not %lu of %zu\n", got >= 8 ? m->nr : 0, got, nr,
                    size_of(nr));
        CHECK(got == (ssize_t)size_of(nr) && m->nr == nr);
        CHECK(filled(m->rest, got - sizeof(m->nr), nr));
}

static void producer(int unwanted)
{
        CALL(prctl(PR_SET_PDEATHSIG, SIGKILL));
        close(unwanted);
        alarm(LONGEST_S);
}

static int over(void)
{
        if (shared->stopping && (errno == EPIPE || errno == ECONNRESET || errno == ECONNREFUSED))
                _exit(0);
        return 0;
}

/* Numbered messages of one socket or pipe. */
static void numbered(int type, int limit)
{
        static int ends[2];
        static struct message m;

        if (!ends[1]) {
                if (type)
                        CALL(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends));
                else
                        CALL(pipe2(ends, O_DIRECT | O_CLOEXEC));
                if (limit)
                        CALL(setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &limit, sizeof(limit)));
                pid_t pid = CALL(fork());
                if (!pid) {
                        producer(ends[0]);
                        for (uint64_t nr = 0;; nr++) {
                                ssize_t bytes = make(&m, nr), sent = write(ends[1], &m, bytes);

                                CHECK(sent == bytes || over());
                        }
                }
                close(ends[1]);
        }
        static uint64_t nr;
        expect(&m, nr, read(ends[0], &m, sizeof(m)));
        if (++nr % 64 == 0)
                usleep(1000);
}

static void packets(uint64_t nr)
{
        (void)nr;
        numbered(0, 0);
}

static void seqpackets(uint64_t nr)
{
        (void)nr;
        numbered(SOCK_SEQPACKET, 0);
}

static void datagrams(uint64_t nr)
{
        (void)nr;
        numbered(SOCK_DGRAM, 1 << 14);
}

/* Each message has its sender's credentials, and every third a memfd that tells its number. */
static void rights_of(int type)
{
        static int ends[2];
        static struct message m;
        static pid_t pid;
        static uint64_t nr;
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
        } control = {0};
        struct iovec part = {&m, sizeof(m)};
        struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control};
        int yes = 1, fd = -1;

        if (!pid) {
                CALL(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends));
                CALL(setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)));
                pid = CALL(fork());
                if (!pid) {
                        producer(ends[0]);
                        for (nr = 0;; nr++) {
                                struct cmsghdr *c = &control.align;

                                part.iov_len = make(&m, nr);
                                head.msg_controllen = 0;
                                if (nr % 3 == 0) {
                                        fd = CALL(memfd_create("flying", MFD_CLOEXEC));
                                        CHECK(pwrite(fd, &nr, sizeof(nr), 0) == sizeof(nr));
                                        *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(fd)),
                                                              .cmsg_level = SOL_SOCKET,
                                                              .cmsg_type = SCM_RIGHTS};
                                        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
                                        head.msg_controllen = CMSG_SPACE(sizeof(fd));
                                }
                                CHECK(sendmsg(ends[1], &head, 0) == (ssize_t)part.iov_len ||
                                      over());
                                if (nr % 3 == 0)
                                        close(fd);
                        }
                }
                close(ends[1]);
        }
        if (type == SOCK_STREAM)
                part.iov_len = size_of(nr);
        head.msg_controllen = sizeof(control);
        expect(&m, nr, recvmsg(ends[0], &head, MSG_CMSG_CLOEXEC));
        CHECK(!(head.msg_flags & (MSG_CTRUNC | MSG_TRUNC)));
        int known = 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&head); c; c = CMSG_NXTHDR(&head, c)) {
                struct ucred who;

                if (c->cmsg_type == SCM_RIGHTS) {
                        CHECK(c->cmsg_len == CMSG_LEN(sizeof(fd)));
                        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
                        continue;
                }
                CHECK(c->cmsg_type == SCM_CREDENTIALS);
                memcpy(&who, CMSG_DATA(c), sizeof(who));
                CHECK(who.pid == pid && who.uid == getuid());
                known = 1;
        }
        CHECK(known && (fd >= 0) == (nr % 3 == 0));
        if (fd >= 0) {
                uint64_t told = 0;

                CHECK(pread(fd, &told, sizeof(told), 0) == sizeof(told) && told == nr);
                CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
                close(fd);
        }
        if (++nr % 64 == 0)
                usleep(1000);
}

static void rights(uint64_t nr)
{
        (void)nr;
        rights_of(SOCK_SEQPACKET);
}

static void stream_rights(uint64_t nr)
{
        (void)nr;
        rights_of(SOCK_STREAM);
}

/* One connection for each message, answered and ended by the other side. */
static void served(int family)
{
        static union {
                struct sockaddr any;
                struct sockaddr_un un;
                struct sockaddr_in in;
        } there;
        static socklen_t size;
        static struct message m, echo;
        static uint64_t nr;
        int fd;

        if (!size) {
                int listener = CALL(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));

                there.any.sa_family = family;
                size = sizeof(there.in);
                if (family == AF_UNIX)
                        size = offsetof(struct sockaddr_un, sun_path) + 1 +
                               snprintf(there.un.sun_path + 1, 100, "messages-%d", getpid());
                else
                        there.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
                CALL(bind(listener, &there.any, size));
                CALL(listen(listener, 8));
                if (family == AF_INET)
                        CALL(getsockname(listener, &there.any, &size));
                pid_t pid = CALL(fork());
                if (!pid) {
                        producer(-1);
                        for (;;) {
                                ssize_t got;

                                fd = CALL(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
                                got = CALL(recv(fd, &echo, sizeof(echo), 0));
                                CHECK(got == 0 || got == (ssize_t)size_of(echo.nr));
                                CHECK(send(fd, &echo, got, 0) == got);
                                close(fd);
                        }
                }
                close(listener);
        }
        fd = CALL(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
        CALL(connect(fd, &there.any, size));
        ssize_t bytes = make(&m, nr);
        CHECK(send(fd, &m, bytes, 0) == bytes);
        expect(&echo, nr, recv(fd, &echo, sizeof(echo), MSG_WAITALL));
        CHECK(recv(fd, &echo, 1, 0) == 0);
        close(fd);
        if (++nr % 64 == 0)
                usleep(1000);
}

static void unix_served(uint64_t nr)
{
        (void)nr;
        served(AF_UNIX);
}

static void tcp_served(uint64_t nr)
{
        (void)nr;
        served(AF_INET);
}

static const struct duty duties[] = {
    {"packets", packets},      {"seqpackets", seqpackets},     {"datagrams", datagrams},
    {"rights", rights},        {"streamright", stream_rights}, {"unixserved", unix_served},
    {"tcpserved", tcp_served},
};

int main(int argc, char **argv)
{
        perform_all(duties, sizeof(duties) / sizeof(*duties), argc > 1 ? argv[1] : NULL);
}
