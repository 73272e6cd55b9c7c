// cycles: 2
/* Socket pairs of each kind: data in flight both ways, borders of messages, halves, closed ends. */
#include "victim.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define LONG 150000

static int stream[2], packets[2], datagrams[2], halved[2], widow, reset, lone, forgotten;
static char text[LONG + 100];

static void expect(int fd, const char *wanted)
{
        size_t length = strlen(wanted);

        CHECK(CALL(recv(fd, text, sizeof(text), 0)) == (ssize_t)length);
        CHECK(!memcmp(text, wanted, length));
}

static void expect_end(int fd)
{
        CHECK(CALL(recv(fd, text, sizeof(text), 0)) == 0);
}

static void say_to(int fd, const char *what)
{
        CHECK(CALL(send(fd, what, strlen(what), 0)) == (ssize_t)strlen(what));
}

static int errors(int fd)
{
        struct pollfd asked = {.fd = fd};

        CALL(poll(&asked, 1, 0));
        return asked.revents;
}

static void build(void)
{
        int ends[2];
        char *block = malloc(LONG);

        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
        say_to(stream[0], "one ");
        say_to(stream[0], "two");
        fill(block, LONG, 5);
        CHECK(CALL(send(stream[1], block, LONG, 0)) == LONG);
        free(block);
        CALL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, packets));
        say_to(packets[0], "first");
        say_to(packets[0], "");
        say_to(packets[0], "third");
        CALL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, datagrams));
        say_to(datagrams[1], "a");
        say_to(datagrams[1], "");
        say_to(datagrams[1], "ccc");
        say_to(datagrams[0], "back");
        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, halved));
        say_to(halved[0], "last");
        CALL(shutdown(halved[0], SHUT_WR));
        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
        say_to(ends[1], "will");
        close(ends[1]);
        widow = ends[0];
        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
        say_to(ends[0], "unread");
        close(ends[1]);
        reset = ends[0];
        CALL(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends));
        say_to(ends[1], "from the dead");
        close(ends[1]);
        forgotten = ends[0];
        lone = CALL(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0));
}

static void check(void)
{
        int waiting;

        CALL(ioctl(stream[1], FIONREAD, &waiting));
        CHECK(waiting == 7);
        expect(stream[1], "one two");
        CHECK(CALL(recv(stream[0], text, LONG, MSG_WAITALL)) == LONG && filled(text, LONG, 5));
        say_to(stream[0], "on");
        expect(stream[1], "on");
        expect(packets[1], "first");
        expect(packets[1], "");
        expect(packets[1], "third");
        CHECK(recv(packets[1], text, 1, 0) == -1 && errno == EAGAIN);
        expect(datagrams[0], "a");
        expect(datagrams[0], "");
        expect(datagrams[0], "ccc");
        expect(datagrams[1], "back");
        CHECK(recv(datagrams[0], text, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
        expect(halved[1], "last");
        expect_end(halved[1]);
        CHECK(send(halved[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
        say_to(halved[1], "other way");
        expect(halved[0], "other way");
        CHECK(errors(widow) == POLLHUP);
        expect(widow, "will");
        expect_end(widow);
        CHECK(send(widow, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
        CHECK(errors(reset) == (POLLHUP | POLLERR));
        CHECK(recv(reset, text, 1, 0) == -1 && errno == ECONNRESET);
        expect_end(reset);
        expect(forgotten, "from the dead");
        CHECK(send(forgotten, "x", 1, 0) == -1 && errno == ECONNREFUSED);
        CHECK(send(lone, "x", 1, MSG_NOSIGNAL) == -1 && errno == ENOTCONN);
}

int main(void)
{
        build();
        ready_and_wait();
        check();
        pass();
}
