/*
 * For each call that the kernel does not make again after an interrupt (signal(7)), and for some
 * that a handler has to end, a thread that waits in it and one that wakes it, over and over. Each
 * time the call returns what it would have returned had nobody stopped the thread: never early,
 * never EINTR unless a handler has run, and never too late.
 */
#include "../ring.h"

#include <poll.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#define WAITED    (SIGRTMIN + 3)
#define HANDLED   (SIGRTMIN + 4)
#define FAR_S     600
#define SHORT_MS  10
#define NAP_NS    20000000
#define MESSAGE   4096
#define NS_PER_S  1000000000LL
#define NS_PER_MS 1000000LL
#define ENOUGH    3

struct pair {
        void (*make)(struct pair *);
        void (*wait)(struct pair *);
        void (*wake)(struct pair *);
        int fds[2], id;
        struct ring ring;
        pid_t waiter;
        unsigned random;
        int sent, handled; /* numbers of signals */
        atomic_int drained, last;
        sem_t done;
        unsigned rounds;
        pthread_t waits, wakes;
};

static atomic_int stopping;
static __thread struct pair *mine;
static const struct timespec far = {.tv_sec = FAR_S};

static int64_t now_ns(void)
{
        struct timespec t;

        CALL(clock_gettime(CLOCK_MONOTONIC, &t));
        return t.tv_sec * NS_PER_S + t.tv_nsec;
}

static void nap(struct pair *p)
{
        struct timespec t = {.tv_nsec = rand_r(&p->random) % NAP_NS};
        int64_t begin = now_ns();

        CALL(nanosleep(&t, NULL));
        CHECK(now_ns() - begin >= t.tv_nsec);
}

static void make_none(UNUSED struct pair *p)
{
}

static void make_pipe(struct pair *p)
{
        CALL(pipe(p->fds));
}

static void wake_by_byte(struct pair *p)
{
        tell(p->fds[1]);
}

static void make_epoll(struct pair *p)
{
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = 77};

        make_pipe(p);
        p->id = CALL(epoll_create1(0));
        CALL(epoll_ctl(p->id, EPOLL_CTL_ADD, p->fds[0], &event));
}

static int polled(struct pair *p, int timeout_ms)
{
        struct epoll_event event = {0};
        int nr = CALL(epoll_wait(p->id, &event, 1, timeout_ms));

        CHECK(!nr || event.data.u64 == 77);
        return nr;
}

static void in_epoll(struct pair *p)
{
        CHECK(polled(p, -1) == 1);
        hear(p->fds[0]);
}

static void in_epoll_short(struct pair *p)
{
        int64_t begin = now_ns();

        if (!polled(p, SHORT_MS)) {
                CHECK(now_ns() - begin >= SHORT_MS * NS_PER_MS);
                CHECK(polled(p, FAR_S * 1000) == 1);
        }
        hear(p->fds[0]);
}

static void in_epoll_pwait2(struct pair *p)
{
        struct epoll_event event;

        CHECK(CALL(epoll_pwait2(p->id, &event, 1, &far, NULL)) == 1);
        hear(p->fds[0]);
}

static void make_semaphore(struct pair *p)
{
        p->id = CALL(semget(IPC_PRIVATE, 1, 0600));
}

static void operate(struct pair *p, short by, const struct timespec *limit)
{
        struct sembuf operation = {.sem_op = by};

        CALL(limit ? semtimedop(p->id, &operation, 1, limit) : semop(p->id, &operation, 1));
}

static void in_semop(struct pair *p)
{
        operate(p, -1, NULL);
}

static void in_semtimedop(struct pair *p)
{
        operate(p, -1, &far);
}

static void wake_by_semop(struct pair *p)
{
        operate(p, 1, NULL);
}

static sigset_t waited(void)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, WAITED);
        return set;
}

static void send_signal(struct pair *p, int signum)
{
        siginfo_t info = {.si_signo = signum, .si_code = SI_QUEUE};

        info.si_pid = getpid();
        info.si_value.sival_int = ++p->sent;
        CALL(syscall(SYS_rt_tgsigqueueinfo, info.si_pid, p->waiter, signum, &info));
}

static void wake_by_signal(struct pair *p)
{
        send_signal(p, WAITED);
}

static void in_sigtimedwait(struct pair *p)
{
        sigset_t set = waited();
        siginfo_t info;

        CHECK(CALL(sigtimedwait(&set, &info, &far)) == WAITED);
        CHECK(info.si_value.sival_int == p->sent);
}

static void make_signalfd(struct pair *p)
{
        sigset_t set = waited();

        p->id = CALL(signalfd(-1, &set, 0));
}

static void in_signalfd(struct pair *p)
{
        struct signalfd_siginfo info;

        CHECK(CALL(read(p->id, &info, sizeof(info))) == sizeof(info));
        CHECK(info.ssi_int == p->sent);
}

static void handle(UNUSED int signum, siginfo_t *info, UNUSED void *context)
{
        CHECK(info->si_value.sival_int == ++mine->handled);
}

static void wake_by_handler(struct pair *p)
{
        send_signal(p, HANDLED);
}

static sigset_t opened(void)
{
        sigset_t set;

        ZERO(pthread_sigmask(SIG_SETMASK, NULL, &set));
        sigdelset(&set, HANDLED);
        return set;
}

static void was_handled(struct pair *p, int result)
{
        CHECK(result == -1 && errno == EINTR);
        CHECK(p->handled == p->sent);
}

static void in_epoll_pwait(struct pair *p)
{
        struct epoll_event event;
        sigset_t set = opened();

        was_handled(p, epoll_pwait(p->id, &event, 1, -1, &set));
}

static void in_ppoll(struct pair *p)
{
        sigset_t set = opened();

        was_handled(p, ppoll(NULL, 0, &far, &set));
}

static void in_sigsuspend(struct pair *p)
{
        sigset_t set = opened();

        was_handled(p, sigsuspend(&set));
}

static void limit(int fd, int option)
{
        struct timeval t = {.tv_sec = FAR_S};

        CALL(setsockopt(fd, SOL_SOCKET, option, &t, sizeof(t)));
}

static void make_stream(struct pair *p)
{
        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, p->fds));
        limit(p->fds[0], SO_RCVTIMEO);
}

static void in_recv(struct pair *p)
{
        char byte;

        CHECK(CALL(recv(p->fds[0], &byte, 1, 0)) == 1);
}

static void in_read(struct pair *p)
{
        hear(p->fds[0]);
}

static void in_recvmmsg(struct pair *p)
{
        char byte;
        struct iovec part = {&byte, 1};
        struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};

        CHECK(CALL(recvmmsg(p->fds[0], &message, 1, 0, NULL)) == 1);
}

static void fill_up(struct pair *p)
{
        char message[MESSAGE] = "";

        while (send(p->fds[1], message, MESSAGE, MSG_DONTWAIT) > 0)
                continue;
        CHECK(errno == EAGAIN);
}

static void make_full(struct pair *p)
{
        CALL(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p->fds));
        limit(p->fds[1], SO_SNDTIMEO);
        fill_up(p);
}

static void in_send(struct pair *p)
{
        char message[MESSAGE] = "";

        CHECK(CALL(send(p->fds[1], message, MESSAGE, 0)) == MESSAGE);
        p->drained = 1;
}

/* It is for the kernel to say how much room a sender needs. */
static void wake_by_room(struct pair *p)
{
        char message[MESSAGE];

        for (p->drained = 0; !p->drained; sched_yield())
                if (recv(p->fds[0], message, MESSAGE, MSG_DONTWAIT) < 0)
                        CHECK(errno == EAGAIN);
        fill_up(p);
}

static void make_listener(struct pair *p)
{
        struct sockaddr_un name = {.sun_family = AF_UNIX};

        p->id = CALL(socket(AF_UNIX, SOCK_STREAM, 0));
        CALL(bind(p->id, (struct sockaddr *)&name, sizeof(name.sun_family)));
        CALL(listen(p->id, 1));
        limit(p->id, SO_RCVTIMEO);
}

static void in_accept(struct pair *p)
{
        close(CALL(accept(p->id, NULL, NULL)));
}

static void wake_by_connect(struct pair *p)
{
        struct sockaddr_un name;
        socklen_t length = sizeof(name);
        char byte;
        int fd = CALL(socket(AF_UNIX, SOCK_STREAM, 0));

        CALL(getsockname(p->id, (struct sockaddr *)&name, &length));
        CALL(connect(fd, (struct sockaddr *)&name, length));
        CHECK(CALL(read(fd, &byte, 1)) == 0);
        close(fd);
}

static void make_ring(struct pair *p)
{
        p->ring = new_ring();
}

static void in_ring(struct pair *p)
{
        struct ring *r = &p->ring;

        CALL(syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0));
        CHECK(ring_has(r));
        CHECK(ring_result(r) == 0);
}

static void wake_by_request(struct pair *p)
{
        ring_submit(&p->ring, (struct io_uring_sqe){.opcode = IORING_OP_NOP});
}

static struct pair pairs[] = {
    {.make = make_epoll, .wait = in_epoll, .wake = wake_by_byte},
    {.make = make_epoll, .wait = in_epoll_short, .wake = wake_by_byte},
    {.make = make_epoll, .wait = in_epoll_pwait2, .wake = wake_by_byte},
    {.make = make_semaphore, .wait = in_semop, .wake = wake_by_semop},
    {.make = make_semaphore, .wait = in_semtimedop, .wake = wake_by_semop},
    {.make = make_none, .wait = in_sigtimedwait, .wake = wake_by_signal},
    {.make = make_signalfd, .wait = in_signalfd, .wake = wake_by_signal},
    {.make = make_epoll, .wait = in_epoll_pwait, .wake = wake_by_handler},
    {.make = make_none, .wait = in_ppoll, .wake = wake_by_handler},
    {.make = make_none, .wait = in_sigsuspend, .wake = wake_by_handler},
    {.make = make_stream, .wait = in_recv, .wake = wake_by_byte},
    {.make = make_stream, .wait = in_read, .wake = wake_by_byte},
    {.make = make_stream, .wait = in_recvmmsg, .wake = wake_by_byte},
    {.make = make_full, .wait = in_send, .wake = wake_by_room},
    {.make = make_listener, .wait = in_accept, .wake = wake_by_connect},
    {.make = make_ring, .wait = in_ring, .wake = wake_by_request},
};
enum { NR = sizeof(pairs) / sizeof(*pairs) };

static void *waiter(void *argument)
{
        struct pair *p = mine = argument;
        int last;

        p->waiter = tid_of_caller();
        do {
                CALL(sem_post(&p->done));
                p->wait(p);
                last = p->last;
        } while (!last);
        return NULL;
}

static void *waker(void *argument)
{
        struct pair *p = argument;

        while (!p->last) {
                CALL(sem_wait(&p->done));
                nap(p);
                p->last = stopping && p->rounds >= ENOUGH;
                p->wake(p);
                p->rounds++;
        }
        return NULL;
}

int main(void)
{
        struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
        sigset_t set = waited();

        sigaddset(&set, HANDLED);
        ZERO(pthread_sigmask(SIG_BLOCK, &set, NULL));
        CALL(sigaction(HANDLED, &action, NULL));
        for (struct pair *p = pairs; p < pairs + NR; p++) {
                p->random = (unsigned)(p - pairs);
                CALL(sem_init(&p->done, 0, 0));
                p->make(p);
                /* It must never wait for a futex: whoever wakes that may come late, and the kernel
                 * takes any wake-up in sigtimedwait(2) for a signal that is not for it. */
                ZERO(pthread_create(&p->waits, NULL, waiter, p));
                p->wakes = started_thread(waker, p);
        }
        ready_and_wait();
        stopping = 1;
        for (struct pair *p = pairs; p < pairs + NR; p++) {
                ZERO(pthread_join(p->wakes, NULL));
                ZERO(pthread_join(p->waits, NULL));
        }
        for (struct pair *p = pairs; p < pairs + NR; p++)
                if (p->wake == wake_by_semop)
                        CALL(semctl(p->id, 0, IPC_RMID));
        pass();
}
