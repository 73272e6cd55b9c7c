// SPDX-License-Identifier: GPL-2.0-only
/*
 * requests DUTIES SEED [away]: datagrams and their errors, watches, and requests to the kernel by
 * AIO and io_uring, drawn at random; each result is checked against what it has to be.
 */
#include "drawn.h"

#include <arpa/inet.h>
#include <linux/aio_abi.h>
#include <linux/errqueue.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int udp_socket(struct sockaddr_in *at)
{
        int fd = CALL(socket(AF_INET, SOCK_DGRAM, 0));
        socklen_t size = sizeof(*at);

        *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        CALL(bind(fd, (struct sockaddr *)at, size));
        CALL(getsockname(fd, (struct sockaddr *)at, &size));
        return fd;
}

static void join_ends(int one, const struct sockaddr_in *other)
{
        CALL(connect(one, (const struct sockaddr *)other, sizeof(*other)));
}

static uint64_t number;

/* One datagram of 8 words at least, its number the first; at times in pieces. */
static size_t post(int fd)
{
        static uint64_t words[64];
        size_t nr = 8 + any(56), at = any(3) ? nr : 1 + any(nr - 1);

        words[0] = ++number;
        fill(words + 1, sizeof(words) - 8, number);
        if (at < nr)
                CHECK(send(fd, words, at * 8, MSG_MORE) == (ssize_t)at * 8);
        CHECK(send(fd, words + (at < nr ? at : 0), (at < nr ? nr - at : nr) * 8, 0) > 0);
        return nr * 8;
}

static void fetch(int fd, uint64_t wanted, size_t bytes, int peeks_on)
{
        static uint64_t last;
        uint64_t words[64];
        int offset = 0;
        socklen_t size = sizeof(offset);

        if (away) {
                ssize_t got = recv(fd, words, sizeof(words), MSG_DONTWAIT);

                if (got == -1)
                        return;
                CHECK(words[0] > last && words[0] <= number && got >= 64);
                CHECK(filled(words + 1, (size_t)got - 8, words[0]));
                last = words[0];
                return;
        }
        if (peeks_on)
                for (uint64_t i = 0; i < 2; i++) {
                        CHECK(recv(fd, words, 8, MSG_PEEK | MSG_DONTWAIT) == 8);
                        CHECK(words[0] == (i ? pattern(wanted, 0) : wanted));
                }
        if (peeks_on) {
                CALL(getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, &size));
                CHECK(offset == 16);
        } else if (any(2)) {
                CHECK(recv(fd, words, 16, MSG_PEEK | MSG_TRUNC) == (ssize_t)bytes);
                CHECK(words[0] == wanted && words[1] == pattern(wanted, 0));
        }
        CHECK(recv(fd, words, sizeof(words), MSG_DONTWAIT) == (ssize_t)bytes);
        CHECK(words[0] == wanted && filled(words + 1, bytes - 8, wanted));
}

static void datagrams(uint64_t nr)
{
        static int from, to, seen;
        struct sockaddr_in ends[3];
        int zero = 0, nr_sent = 1 + (int)any(5), peeks = any(2) == 0;
        size_t bytes[5];

        if (!nr) {
                from = udp_socket(&ends[0]);
                to = udp_socket(&ends[1]);
                seen = udp_socket(&ends[2]);
                join_ends(to, &ends[0]);
                join_ends(seen, &ends[0]);
                CALL(setsockopt(seen, SOL_SOCKET, SO_PEEK_OFF, &zero, sizeof(zero)));
        }
        socklen_t size = sizeof(*ends);
        CALL(getsockname(peeks ? seen : to, (struct sockaddr *)ends, &size));
        join_ends(from, ends);
        uint64_t wanted = number;
        for (int i = 0; i < nr_sent; i++)
                bytes[i] = post(from);
        for (int i = 0; i < nr_sent; i++)
                fetch(peeks ? seen : to, ++wanted, bytes[i], peeks);
        CHECK(!polled(to, POLLIN) && !polled(seen, POLLIN));
        rest();
}

/* Errors, of which each is told once: nobody listens where the peer is, for it speaks to another.
 */
static void refusals(uint64_t nr)
{
        static int fds[2], deaf;
        struct sockaddr_in ends[3];
        int yes = 1, error, i = (int)any(2);
        socklen_t size = sizeof(error);
        char control[512], data[16];

        if (!nr) {
                deaf = udp_socket(&ends[2]);
                for (int k = 0; k < 2; k++) {
                        fds[k] = udp_socket(&ends[k]);
                        join_ends(fds[k], &ends[2]);
                }
                join_ends(deaf, &ends[2]);
                CALL(setsockopt(fds[1], IPPROTO_IP, IP_RECVERR, &yes, sizeof(yes)));
        }
        CHECK(send(fds[i], &nr, sizeof(nr), 0) == sizeof(nr));
        await(fds[i], POLLERR);
        if (i) {
                struct iovec part = {data, sizeof(data)};
                struct msghdr head = {.msg_iov = &part,
                                      .msg_iovlen = 1,
                                      .msg_control = control,
                                      .msg_controllen = sizeof(control)};

                CHECK(recvmsg(fds[i], &head, MSG_ERRQUEUE | MSG_DONTWAIT) == sizeof(nr));
                CHECK(!memcmp(data, &nr, sizeof(nr)));
                struct sock_extended_err *told = (void *)CMSG_DATA(CMSG_FIRSTHDR(&head));
                CHECK(told->ee_errno == ECONNREFUSED);
                CHECK(recvmsg(fds[i], &head, MSG_ERRQUEUE | MSG_DONTWAIT) == -1);
                CHECK(errno == EAGAIN);
        }
        if (any(2)) {
                CALL(getsockopt(fds[i], SOL_SOCKET, SO_ERROR, &error, &size));
                CHECK(error == (i ? 0 : ECONNREFUSED));
        } else {
                CHECK(recv(fds[i], data, sizeof(data), MSG_DONTWAIT) == -1);
                CHECK(errno == (i ? EAGAIN : ECONNREFUSED));
        }
        CHECK(recv(fds[i], data, sizeof(data), MSG_DONTWAIT) == -1 && errno == EAGAIN);
        rest();
}

static void groups(uint64_t nr)
{
        static int from, to, joined;
        static struct sockaddr_in group;
        struct ip_mreqn lo = {.imr_address = {htonl(INADDR_LOOPBACK)}, .imr_ifindex = 1};
        struct sockaddr_in any_end;
        uint64_t got;

        lo.imr_multiaddr.s_addr = htonl(0xEF010000u | (unsigned)(getpid() & 0xFFFF));
        if (!nr) {
                socklen_t size = sizeof(group);

                from = udp_socket(&any_end);
                to = CALL(socket(AF_INET, SOCK_DGRAM, 0));
                group = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = lo.imr_multiaddr};
                CALL(bind(to, (struct sockaddr *)&group, size));
                CALL(getsockname(to, (struct sockaddr *)&group, &size));
                CALL(setsockopt(from, IPPROTO_IP, IP_MULTICAST_IF, &lo, sizeof(lo)));
                joined = 0;
        }
        if (any(3) == 0) {
                int which = joined ? IP_DROP_MEMBERSHIP : IP_ADD_MEMBERSHIP;

                CALL(setsockopt(to, IPPROTO_IP, which, &lo, sizeof(lo)));
                joined = !joined;
        }
        CHECK(sendto(from, &nr, sizeof(nr), 0, (void *)&group, sizeof(group)) == sizeof(nr));
        if (joined && !away) {
                CHECK(recv(to, &got, sizeof(got), MSG_DONTWAIT) == sizeof(got) && got == nr);
        } else if (joined && recv(to, &got, sizeof(got), MSG_DONTWAIT) == sizeof(got)) {
                CHECK(got == nr);
        }
        CHECK(recv(to, &got, sizeof(got), MSG_DONTWAIT) == -1 && errno == EAGAIN);
        rest();
}

/* What happens in a folder in which a file is open and mapped, and nothing else. */
static int watching;
static uint32_t moved;

static void expect_event(uint32_t mask, const char *name)
{
        static char buffer[4096];
        static ssize_t size, at;

        if (at == size) {
                size = CALL(read(watching, buffer, sizeof(buffer)));
                at = 0;
        }
        const struct inotify_event *event = (const void *)(buffer + at);
        const char *told = event->len ? event->name : "";
        if (event->mask != mask || strcmp(told, name))
                say("%#x of %s, not %#x of %s\n", event->mask, told, mask, name);
        CHECK(event->mask == mask && !strcmp(told, name));
        if (mask & IN_MOVED_TO)
                CHECK(event->cookie == moved);
        moved = event->cookie;
        at += (ssize_t)sizeof(*event) + event->len;
}

static void watches(uint64_t nr)
{
        static char one[600], other[600];
        int waiting, fd;

        if (!nr) {
                snprintf(one, sizeof(one), "%s", in_folder("watched"));
                CALL(mkdir(one, 0755));
                fd = made_file("watched/open", PAGE * 4, 3);
                char *memory = mmap(NULL, PAGE * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
                CHECK(memory != MAP_FAILED && memory[PAGE] + 1);
                memory[0]++;
                CHECK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED);
                watching = CALL(inotify_init1(IN_NONBLOCK));
                CHECK(inotify_add_watch(watching, one, IN_ALL_EVENTS) == 1);
                snprintf(one, sizeof(one), "%s", in_folder("watched/one"));
                snprintf(other, sizeof(other), "%s", in_folder("watched/other"));
        }
        fd = CALL(open(one, O_CREAT | O_EXCL | O_RDWR, 0600));
        expect_event(IN_CREATE, "one");
        expect_event(IN_OPEN, "one");
        if (any(2)) {
                CHECK(write(fd, "x", 1) == 1);
                CHECK(pread(fd, &waiting, 1, 0) == 1);
                expect_event(IN_MODIFY, "one");
                expect_event(IN_ACCESS, "one");
        }
        CALL(close(fd));
        CALL(rename(one, other));
        expect_event(IN_CLOSE_WRITE, "one");
        expect_event(IN_MOVED_FROM, "one");
        expect_event(IN_MOVED_TO, "other");
        CALL(unlink(other));
        expect_event(IN_DELETE, "other");
        CALL(ioctl(watching, FIONREAD, &waiting));
        CHECK(!waiting);
        usleep((useconds_t)any(4000));
}

/* Reads and writes of a file by AIO; a counter is told of each. */
static void aio(uint64_t nr)
{
        enum { MOST = 8 };
        static aio_context_t context;
        static int file, counter;
        static char *memory;
        struct iocb requests[MOST], *list[MOST];
        struct io_event got[MOST];
        int n = 1 + (int)any(MOST), nr_got = 0;
        uint64_t told = 0, more, kinds = any(1 << MOST), done = 0;

        if (!nr) {
                file = made_file("aio", MOST * PAGE, 1);
                int direct = open(in_folder("aio"), O_RDWR | O_DIRECT);
                file = direct < 0 ? file : direct;
                counter = CALL(eventfd(0, 0));
                CALL(syscall(SYS_io_setup, 64, &context));
                memory = anonymous(MOST * PAGE);
                for (int i = 0; i < MOST; i++)
                        fill(memory + i * PAGE, PAGE, 0);
                CHECK(pwrite(file, memory, MOST * PAGE, 0) == MOST * PAGE);
        }
        static uint64_t seeds[MOST];
        for (int i = 0; i < n; i++) {
                int writes = kinds >> i & 1;

                seeds[i] = writes ? nr : seeds[i];
                if (writes)
                        fill(memory + i * PAGE, PAGE, nr);
                else
                        memset(memory + i * PAGE, 0, PAGE);
                requests[i] = (struct iocb){.aio_data = (uint64_t)i,
                                            .aio_lio_opcode = (uint16_t)writes,
                                            .aio_fildes = (uint32_t)file,
                                            .aio_buf = (uint64_t)memory + (uint64_t)i * PAGE,
                                            .aio_nbytes = PAGE,
                                            .aio_offset = i * (int64_t)PAGE,
                                            .aio_flags = IOCB_FLAG_RESFD,
                                            .aio_resfd = (uint32_t)counter};
                list[i] = &requests[i];
        }
        CHECK(CALL(syscall(SYS_io_submit, context, n, list)) == n);
        for (; told < (uint64_t)n; told += more)
                CHECK(read(counter, &more, 8) == 8);
        CHECK(told == (uint64_t)n && !polled(counter, POLLIN));
        while (nr_got < n) {
                int some = (int)CALL(syscall(SYS_io_getevents, context, 1, MOST, got, NULL));

                for (int i = 0; i < some; i++, nr_got++) {
                        CHECK(got[i].res == PAGE && got[i].data < (uint64_t)n);
                        CHECK(!(done >> got[i].data & 1));
                        done |= 1ULL << got[i].data;
                }
        }
        for (int i = 0; i < n; i++)
                CHECK(filled(memory + i * PAGE, PAGE, seeds[i]));
        CHECK(!CALL(syscall(SYS_io_getevents, context, 0, MOST, got, &(struct timespec){0})));
        rest();
}

/* A ring of io_uring. */
static struct io_uring_params ring;
static int ring_fd;
static char *rings;
static struct io_uring_sqe *entries;

static unsigned *field(unsigned offset)
{
        return (unsigned *)(rings + offset);
}

static void make_ring(void)
{
        ring_fd = CALL(syscall(SYS_io_uring_setup, 8, &ring));
        rings = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, IORING_OFF_SQ_RING);
        entries = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, IORING_OFF_SQES);
        CHECK(rings != MAP_FAILED && entries != MAP_FAILED);
}

static struct io_uring_sqe *request(int opcode, uint64_t data, unsigned flags)
{
        unsigned tail = *field(ring.sq_off.tail), index = tail & (ring.sq_entries - 1);
        struct io_uring_sqe *sqe = &entries[index];

        *sqe = (struct io_uring_sqe){
            .opcode = (uint8_t)opcode, .flags = (uint8_t)flags, .user_data = data};
        field(ring.sq_off.array)[index] = index;
        __atomic_store_n(field(ring.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
        return sqe;
}

static void submit(unsigned nr)
{
        CHECK(CALL(syscall(SYS_io_uring_enter, ring_fd, nr, 0, 0, NULL, 0)) == (long)nr);
}

struct completion {
        uint64_t data;
        int res;
};

/* The next one, waited for. */
static struct completion completed(void)
{
        unsigned head = *field(ring.cq_off.head);
        struct io_uring_cqe *cqes = (void *)(rings + ring.cq_off.cqes);

        while (__atomic_load_n(field(ring.cq_off.tail), __ATOMIC_ACQUIRE) == head)
                if (syscall(SYS_io_uring_enter, ring_fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
                        CHECK(errno == EINTR);
        struct io_uring_cqe *cqe = &cqes[head & (ring.cq_entries - 1)];
        struct completion got = {cqe->user_data, cqe->res};
        __atomic_store_n(field(ring.cq_off.head), head + 1, __ATOMIC_RELEASE);
        return got;
}

static void expect_none(void)
{
        CHECK(*field(ring.cq_off.head) == *field(ring.cq_off.tail));
        CHECK(*field(ring.sq_off.head) == *field(ring.sq_off.tail));
        CHECK(*field(ring.cq_off.overflow) == 0);
}

/* Requests that are done when they are submitted, and chains that end early. */
static void idle(uint64_t nr)
{
        static int file;
        uint64_t words[8] = {0};
        int n = 1 + (int)any(8), bad = (int)any(16);

        if (!nr) {
                make_ring();
                file = made_file("ring", 64, 4);
        }
        for (int i = 0; i < n; i++) {
                unsigned flags = i + 1 < n ? IOSQE_IO_LINK : 0;
                struct io_uring_sqe *sqe = request(IORING_OP_READ, nr * 8 + (uint64_t)i, flags);

                sqe->fd = i == bad ? -1 : file;
                sqe->addr = (uint64_t)&words[i];
                sqe->len = 8;
                sqe->off = 8 * (uint64_t)i;
        }
        submit((unsigned)n);
        for (int i = 0; i < n; i++) {
                struct completion got = completed();

                CHECK(got.data == nr * 8 + (uint64_t)i);
                CHECK(got.res == (i < bad ? 8 : i == bad ? -EBADF : -ECANCELED));
                CHECK(words[i] == (i < bad ? pattern(4, (uint64_t)i) : 0));
        }
        expect_none();
        rest();
}

/* Timeouts, and waits that are answered or called off. */
static void waits(uint64_t nr)
{
        static int ends[2];
        uint64_t seen = 0, wanted = nr * 8, start = now(CLOCK_MONOTONIC), left = any(2000000);
        struct __kernel_timespec limit = {.tv_nsec = (long long)left};
        struct __kernel_timespec hour = {.tv_sec = 3600};
        int answered = (int)any(2);
        char byte;

        if (!nr) {
                make_ring();
                CALL(pipe(ends));
        }
        struct io_uring_sqe *sqe = request(IORING_OP_TIMEOUT, wanted, 0);
        sqe->addr = (uint64_t)&limit;
        sqe->len = 1;
        sqe = request(IORING_OP_POLL_ADD, wanted + 1, answered ? IOSQE_IO_LINK : 0);
        sqe->fd = ends[0];
        sqe->poll32_events = POLLIN;
        if (answered) {
                sqe = request(IORING_OP_LINK_TIMEOUT, wanted + 2, 0);
                sqe->addr = (uint64_t)&hour;
                sqe->len = 1;
        }
        submit(answered ? 3 : 2);
        if (answered) {
                tell(ends[1]);
        } else {
                sqe = request(IORING_OP_POLL_REMOVE, wanted + 2, 0);
                sqe->addr = wanted + 1;
                submit(1);
        }
        for (int i = 0; i < 3; i++) {
                struct completion got = completed();
                uint64_t which = got.data - wanted;

                CHECK(which < 3 && !(seen >> which & 1));
                seen |= 1ULL << which;
                if (which == 0)
                        CHECK(got.res == -ETIME && now(CLOCK_MONOTONIC) - start >= left);
                else if (which == 1)
                        CHECK(answered ? got.res & POLLIN : got.res == -ECANCELED);
                else
                        CHECK(got.res == (answered ? -ECANCELED : 0));
        }
        if (answered)
                CHECK(read(ends[0], &byte, 1) == 1);
        expect_none();
}

static const struct duty duties[] = {
    {"idle", idle},       {"waits", waits},         {"refusals", refusals}, {"groups", groups},
    {"watches", watches}, {"datagrams", datagrams}, {"aio", aio},
};

int main(int argc, char **argv)
{
        perform_drawn(duties, sizeof(duties) / sizeof(*duties), argc, argv);
}
