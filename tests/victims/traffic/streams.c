// SPDX-License-Identifier: GPL-2.0-only
/*
 * streams [DUTY...]: bytes that go from one process to another without a pause. Each byte is what
 * its place in the stream says, so nothing can be lost, doubled or swapped; what the kernel tells
 * of a stream (poll(2), FIONREAD, MSG_PEEK) has to be what reading finds.
 */
#include "traffic.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <termios.h>

#define MOST (48UL << 10)

struct stream {
        int in, out;
        uint64_t at, seed, seen;
        int is_socket;
};

static char buffer[MOST + 64], wanted[MOST + 64];

/* `bytes` bytes from `at` on, into `to`, which has room for 16 more; where they begin. */
static char *piece(char *to, uint64_t seed, uint64_t at, size_t bytes)
{
        uint64_t *words = (uint64_t *)to;

        for (size_t i = 0; i <= bytes / 8 + 1; i++)
                words[i] = pattern(seed, at / 8 + i);
        return to + at % 8;
}

static void check(struct stream *s, const char *data, size_t bytes)
{
        const char *have = piece(wanted, s->seed, s->at, bytes);

        for (size_t i = 0; i < bytes; i++)
                if (data[i] != have[i]) {
                        say("byte %lu of %lu\n", s->at + i, s->at + bytes);
                        CHECK(!"the stream is whole");
                }
}

/* Writes for ever; ends with the process that reads. */
static void produce(struct stream *s, void (*put)(struct stream *, char *, size_t))
{
        uint64_t state = s->seed;

        CALL(prctl(PR_SET_PDEATHSIG, SIGKILL));
        close(s->in);
        alarm(LONGEST_S);
        for (;;) {
                size_t bytes = 1 + draw(&state) % (draw(&state) % 8 ? 4000 : MOST);

                put(s, piece(buffer, s->seed, s->at, bytes), bytes);
                s->at += bytes;
        }
}

static int over(ssize_t done)
{
        if (done >= 0)
                return 0;
        if (shared->stopping && (errno == EPIPE || errno == ECONNRESET || errno == EIO))
                _exit(0);
        return 1;
}

static void put_plain(struct stream *s, char *data, size_t bytes)
{
        while (bytes) {
                ssize_t done = write(s->out, data, bytes);

                CHECK(!over(done) && done > 0);
                data += done;
                bytes -= done;
        }
}

static void put_polling(struct stream *s, char *data, size_t bytes)
{
        while (bytes) {
                struct pollfd one = {s->out, POLLOUT, 0};
                ssize_t done;

                CHECK(poll(&one, 1, -1) == 1 && one.revents & POLLOUT);
                done = write(s->out, data, bytes);
                CHECK(!over(done) && done > 0);
                data += done;
                bytes -= done;
        }
}

static void put_vmspliced(struct stream *s, char *data, size_t bytes)
{
        static char *pages;
        static int nr;

        /* What is in the pipe must not be changed: it takes more than the pipe holds to come round.
         */
        if (!pages)
                pages = anonymous(64 * 2 * MOST);
        char *own = pages + nr++ % 64 * 2 * MOST;

        memcpy(own, data, bytes);
        for (struct iovec one = {own, bytes}; one.iov_len;) {
                ssize_t done = vmsplice(s->out, &one, 1, 0);

                CHECK(!over(done) && done > 0);
                one.iov_base = (char *)one.iov_base + done;
                one.iov_len -= done;
        }
}

static void get_plain(struct stream *s, size_t bytes)
{
        ssize_t done = read(s->in, buffer, bytes);

        CHECK(done > 0);
        check(s, buffer, done);
        s->at += done;
}

/* What is announced can be had at once, and is there when it was only looked at. */
static void get_announced(struct stream *s, size_t bytes)
{
        struct pollfd one = {s->in, POLLIN, 0};
        int waiting = 0;

        CHECK(poll(&one, 1, -1) == 1 && one.revents == POLLIN);
        CALL(ioctl(s->in, FIONREAD, &waiting));
        CHECK(waiting > 0);
        if (bytes > (size_t)waiting)
                bytes = waiting;
        if (s->is_socket) {
                CHECK(recv(s->in, buffer, bytes, MSG_PEEK | MSG_DONTWAIT) > 0);
                check(s, buffer, 1);
                CHECK(recv(s->in, buffer, bytes, MSG_DONTWAIT) == (ssize_t)bytes);
        } else {
                CHECK(read(s->in, buffer, bytes) == (ssize_t)bytes);
        }
        check(s, buffer, bytes);
        s->at += bytes;
}

/* By way of two more pipes: copied to one, moved to another. */
static void get_spliced(struct stream *s, size_t bytes)
{
        static int copy[2], moved[2];
        ssize_t done, got;

        if (!copy[0]) {
                CALL(pipe2(copy, O_CLOEXEC));
                CALL(pipe2(moved, O_CLOEXEC));
        }
        if (bytes > 32768)
                bytes = 32768;
        done = CALL(tee(s->in, copy[1], bytes, 0));
        CHECK(done > 0);
        for (got = 0; got < done;)
                got += CALL(read(copy[0], buffer + got, done - got));
        check(s, buffer, done);
        done = CALL(splice(s->in, NULL, moved[1], NULL, done, 0));
        CHECK(done > 0);
        for (got = 0; got < done;)
                got += CALL(read(moved[0], buffer + got, done - got));
        check(s, buffer, done);
        s->at += done;
}

static void flow(int kind, void (*make)(int[2]), void (*put)(struct stream *, char *, size_t),
                 void (*get)(struct stream *, size_t))
{
        static struct stream s;
        static uint64_t state;

        if (!s.seed) {
                int ends[2];

                make(ends);
                s = (struct stream){ends[0], ends[1], 0, getpid(), 0, kind};
                pid_t pid = CALL(fork());
                if (!pid)
                        produce(&s, put);
                close(s.out);
        }
        /* Meanwhile as much is on its way as there is room for, and others have the processor. */
        if (++s.seen % 64 == 0)
                usleep(1000);
        get(&s, 1 + draw(&state) % (draw(&state) % 8 ? 3000 : MOST));
}

static void made_pipe(int ends[2])
{
        CALL(pipe2(ends, O_CLOEXEC));
}

static void made_polled_pipe(int ends[2])
{
        CALL(pipe2(ends, O_CLOEXEC | O_NONBLOCK));
}

static void made_fifo(int ends[2])
{
        char path[512];

        strcpy(path, in_folder("fifo"));
        unlink(path);
        CALL(mkfifo(path, 0600));
        int both = CALL(open(path, O_RDWR | O_CLOEXEC));
        ends[0] = CALL(open(path, O_RDONLY | O_CLOEXEC));
        ends[1] = CALL(open(path, O_WRONLY | O_CLOEXEC));
        close(both);
}

static void made_pair(int ends[2])
{
        CALL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
}

static void made_polled_pair(int ends[2])
{
        CALL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends));
}

static void made_tcp(int ends[2])
{
        struct sockaddr_in there = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
        socklen_t size = sizeof(there);
        int listener = CALL(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

        CALL(bind(listener, (void *)&there, size));
        CALL(listen(listener, 1));
        CALL(getsockname(listener, (void *)&there, &size));
        ends[1] = CALL(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        CALL(connect(ends[1], (void *)&there, size));
        ends[0] = CALL(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
        close(listener);
}

static void made_polled_tcp(int ends[2])
{
        made_tcp(ends);
        CALL(fcntl(ends[0], F_SETFL, O_NONBLOCK));
        CALL(fcntl(ends[1], F_SETFL, O_NONBLOCK));
}

/* From master to slave, as it is typed; both ends stay open in both. */
static void made_terminal(int ends[2])
{
        struct termios raw;
        int zero = 0, master = CALL(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));

        CALL(ioctl(master, TIOCSPTLCK, &zero));
        ends[0] = CALL(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
        ends[1] = master;
        CALL(tcgetattr(ends[0], &raw));
        cfmakeraw(&raw);
        CALL(tcsetattr(ends[0], TCSANOW, &raw));
}

/* The other way, as a program writes and a terminal emulator reads. */
static void made_output(int ends[2])
{
        int both[2];

        made_terminal(both);
        ends[0] = both[1];
        ends[1] = both[0];
}

#define FLOW(name, kind, make, put, get)                                                           \
        static void name(uint64_t nr)                                                              \
        {                                                                                          \
                (void)nr;                                                                          \
                flow(kind, make, put, get);                                                        \
        }

FLOW(pipes, 0, made_pipe, put_plain, get_plain)
FLOW(polled_pipes, 0, made_polled_pipe, put_polling, get_announced)
FLOW(spliced, 0, made_pipe, put_plain, get_spliced)
FLOW(vmspliced, 0, made_pipe, put_vmspliced, get_announced)
FLOW(fifos, 0, made_fifo, put_plain, get_announced)
FLOW(pairs, 1, made_pair, put_plain, get_plain)
FLOW(polled_pairs, 1, made_polled_pair, put_polling, get_announced)
FLOW(tcp, 1, made_tcp, put_plain, get_plain)
FLOW(polled_tcp, 1, made_polled_tcp, put_polling, get_announced)
FLOW(typed, 0, made_terminal, put_plain, get_plain)
FLOW(shown, 0, made_output, put_plain, get_plain)

static const struct duty duties[] = {
    {"pipes", pipes},
    {"polledpipe", polled_pipes},
    {"spliced", spliced},
    {"gifts", vmspliced},
    {"fifos", fifos},
    {"pairs", pairs},
    {"polledpair", polled_pairs},
    {"tcp", tcp},
    {"polledtcp", polled_tcp},
    {"typed", typed},
    {"shown", shown},
};

int main(int argc, char **argv)
{
        perform_all(duties, sizeof(duties) / sizeof(*duties), argc > 1 ? argv[1] : NULL);
}
