/* Descriptors in flight in UNIX sockets of each kind, of which the sender has closed most: files,
 * one without a name, ends of pipes, sockets with data and more descriptors in flight, a socket to
 * itself. Each comes with the very byte that it was sent with. */
#include "inet.h"
#include <sys/eventfd.h>
#include <sys/un.h>

#define MOST 253

static int stream[2], datagrams[2], packets[2], named, circle[2], counter, shared, outer[2],
    many[2];
static struct sockaddr_un name = {.sun_family = AF_UNIX};

static void give(int to, const char *text, int nr, const int *fds)
{
        static union {
                struct cmsghdr head;
                char space[CMSG_SPACE(MOST * sizeof(int))];
        } control;
        struct iovec part = {.iov_base = (void *)text, .iov_len = strlen(text)};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control};

        message.msg_controllen = CMSG_SPACE((unsigned)nr * sizeof(int));
        control.head =
            (struct cmsghdr){CMSG_LEN((unsigned)nr * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.head), fds, (unsigned)nr * sizeof(int));
        if (to == named) {
                message.msg_name = &name;
                message.msg_namelen = sizeof(name);
        }
        int by = to == named ? CALL(socket(AF_UNIX, SOCK_DGRAM, 0)) : to;
        CHECK(CALL(sendmsg(by, &message, 0)) == (ssize_t)strlen(text));
        if (to == named)
                close(by);
}

static void give_one(int to, const char *text, int fd)
{
        give(to, text, 1, &fd);
}

/* What is read in one go: at most `size` bytes, which are `text`, with `nr` descriptors. */
static void take(int from, size_t size, const char *text, int nr, int *fds)
{
        static union {
                struct cmsghdr head;
                char space[CMSG_SPACE(MOST * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
        } control;
        char seen[64] = "";
        struct iovec part = {.iov_base = seen, .iov_len = size};
        struct msghdr message = {.msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = &control,
                                 .msg_controllen = sizeof(control)};
        int got = 0;

        CHECK(CALL(recvmsg(from, &message, MSG_DONTWAIT)) == (ssize_t)strlen(text));
        CHECK(!strcmp(seen, text) && !(message.msg_flags & MSG_CTRUNC));
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
                if (c->cmsg_type == SCM_RIGHTS) {
                        got = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
                        CHECK(got == nr);
                        memcpy(fds, CMSG_DATA(c), (unsigned)got * sizeof(int));
                } else if (c->cmsg_type == SCM_CREDENTIALS) {
                        CHECK(((struct ucred *)CMSG_DATA(c))->pid == getpid());
                }
        }
        CHECK(got == nr);
}

static int take_one(int from, size_t size, const char *text)
{
        int fd;

        take(from, size, text, 1, &fd);
        return fd;
}

static void expect(int fd, const char *text)
{
        char seen[64] = "";

        CHECK(CALL(read(fd, seen, sizeof(seen))) == (ssize_t)strlen(text) && !strcmp(seen, text));
}

static void build(void)
{
        int file = made_file("sent", 8, 7), gone = made_file("gone", 8, 9), ends[2], pipes[2];
        int inner[2], listening = CALL(socket(AF_INET, SOCK_STREAM, 0)), copies[MOST];

        CALL(unlink(in_folder("gone")));
        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
        set(stream[1], SOL_SOCKET, SO_PASSCRED, 1);
        CHECK(CALL(write(stream[0], "abc", 3)) == 3);
        CALL(pipe(pipes));
        CHECK(CALL(write(pipes[1], "piped", 5)) == 5);
        shared = made_file("shared", 8, 3);
        give(stream[0], "x", 4, (int[]){file, pipes[0], counter, shared});
        CHECK(CALL(write(stream[0], "tail", 4)) == 4);
        give_one(stream[0], "deleted", gone);
        give_one(stream[0], "end", pipes[1]);
        CHECK(CALL(lseek(shared, 5, SEEK_SET)) == 5);

        CALL(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams));
        give_one(datagrams[0], "", file);
        give_one(datagrams[0], "second", gone);
        CALL(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, packets));
        bind_local(listening, AF_INET, 0);
        CALL(listen(listening, 3));
        give_one(packets[0], "tcp", listening);
        close(listening);

        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));  /* ends[1] is in flight only, */
        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, inner)); /* inner[1] in flight to that */
        CHECK(CALL(write(inner[0], "deep", 4)) == 4);
        give_one(ends[0], "inner", inner[1]);
        give_one(packets[0], "socket", ends[1]);
        close(inner[0]);
        close(inner[1]);
        close(ends[1]);
        outer[0] = ends[0];

        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, circle));
        give_one(circle[0], "self", circle[1]);
        named = CALL(socket(AF_UNIX, SOCK_DGRAM, 0));
        snprintf(name.sun_path, sizeof(name.sun_path), "%s", in_folder("socket"));
        CALL(bind(named, (struct sockaddr *)&name, sizeof(name)));
        give_one(named, "to a name", file);
        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, many));
        for (int i = 0; i < MOST; i++)
                copies[i] = file;
        for (int i = 0; i < 3; i++)
                give(many[0], "m", MOST, copies);
        close(file);
        close(gone);
        close(pipes[0]);
        close(pipes[1]);
}

static void check(void)
{
        uint64_t word, count = 0;
        int got[MOST], fd;
        char text[2];

        take(stream[1], 2, "ab", 0, NULL);
        take(stream[1], 2, "cx", 4, got);
        CHECK(CALL(read(got[0], &word, 8)) == 8 && word == pattern(7, 0));
        expect(got[1], "piped");
        CHECK(CALL(write(counter, &(uint64_t){4}, 8)) == 8);
        CHECK(CALL(read(got[2], &count, 8)) == 8 && count == 6);
        CHECK(CALL(lseek(got[3], 0, SEEK_CUR)) == 5);
        CHECK(CALL(lseek(shared, 2, SEEK_SET)) == 2 && lseek(got[3], 0, SEEK_CUR) == 2);
        fd = take_one(stream[1], 64, "taildeleted");
        CHECK(CALL(read(fd, &word, 8)) == 8 && word == pattern(9, 0));
        fd = take_one(stream[1], 64, "end");
        CHECK(CALL(write(fd, "again", 5)) == 5);
        expect(got[1], "again");
        close(fd);
        CHECK(read(got[1], text, 1) == 0);

        take_one(datagrams[1], 64, "");
        fd = take_one(datagrams[1], 64, "second");
        CHECK(CALL(lseek(fd, 0, SEEK_CUR)) == 8);
        fd = take_one(packets[1], 64, "tcp");
        CHECK(get(fd, SOL_SOCKET, SO_ACCEPTCONN) == 1 && backlog_of(fd) == 3);
        fd = take_one(packets[1], 64, "socket");
        CHECK(CALL(write(fd, "up", 2)) == 2);
        expect(outer[0], "up");
        expect(take_one(fd, 64, "inner"), "deep");
        fd = take_one(circle[1], 64, "self");
        CHECK(CALL(write(circle[0], "round", 5)) == 5);
        expect(fd, "round");
        take_one(named, 64, "to a name");
        for (int i = 0; i < 3; i++) {
                take(many[1], 64, "m", MOST, got);
                for (int k = 0; k < MOST; k++)
                        close(got[k]);
        }
        CHECK(recv(many[1], text, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
}

int main(void)
{
        counter = CALL(eventfd(2, 0));
        build();
        ready_and_wait();
        check();
        pass();
}
