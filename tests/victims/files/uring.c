// cycles: 2
/* Rings of io_uring, beside a thread that waits for a signal: new, used past their ends, with
 * completions that nobody took, shared with a child, mapped in two places, without its descriptor
 * mapped; they go on from where they were. */
#include "victim.h"
#include <linux/io_uring.h>

#define NO_SQARRAY (1u << 16) /* newer than Debian 12's header */

struct ring {
        struct io_uring_params p;
        int fd;
        char *rings;
        struct io_uring_sqe *sqes;
        unsigned tail, head; /* as liburing keeps them */
};

static int told[2], file;

static unsigned *field(struct ring *r, unsigned offset)
{
        return (unsigned *)(r->rings + offset);
}

static void map_ring(struct ring *r)
{
        size_t size = r->p.sq_off.array + r->p.sq_entries * sizeof(unsigned);

        if (r->p.sq_off.array == 0)
                size = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
        r->rings = CALL(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
                             IORING_OFF_SQ_RING));
        r->sqes = CALL(mmap(NULL, r->p.sq_entries * sizeof(*r->sqes), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQES));
}

static struct ring made(unsigned entries, unsigned cq_entries, unsigned flags)
{
        struct ring r = {.p = {.flags = flags, .cq_entries = cq_entries}};

        r.fd = CALL(syscall(SYS_io_uring_setup, entries, &r.p));
        map_ring(&r);
        return r;
}

static void submit(struct ring *r, int opcode, void *buffer, uint64_t offset, uint64_t data)
{
        unsigned index = r->tail & (r->p.sq_entries - 1);
        struct io_uring_sqe *sqe = &r->sqes[index];

        memset(sqe, 0, sizeof(*sqe));
        sqe->opcode = (uint8_t)opcode;
        sqe->fd = file;
        sqe->addr = (uint64_t)buffer;
        sqe->len = 8;
        sqe->off = offset;
        sqe->user_data = data;
        if (r->p.sq_off.array)
                field(r, r->p.sq_off.array)[index] = index;
        __atomic_store_n(field(r, r->p.sq_off.tail), ++r->tail, __ATOMIC_RELEASE);
        CHECK(CALL(syscall(SYS_io_uring_enter, r->fd, 1, 0, 0, NULL, 0)) == 1);
}

static void take(struct ring *r, uint64_t data, int result)
{
        struct io_uring_cqe *cqes = (void *)(r->rings + r->p.cq_off.cqes);

        if (__atomic_load_n(field(r, r->p.cq_off.tail), __ATOMIC_ACQUIRE) == r->head)
                CALL(syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0));
        struct io_uring_cqe *cqe = &cqes[r->head & (r->p.cq_entries - 1)];
        CHECK(cqe->user_data == data && cqe->res == result);
        __atomic_store_n(field(r, r->p.cq_off.head), ++r->head, __ATOMIC_RELEASE);
}

static void use(struct ring *r, int times)
{
        for (int i = 0; i < times; i++) {
                uint64_t word = 0;

                submit(r, IORING_OP_READ, &word, 8, 100u + (uint64_t)i);
                take(r, 100u + (uint64_t)i, 8);
                CHECK(word == pattern(4, 1));
        }
}

static void leave(struct ring *r, int completions)
{
        for (int i = 0; i < completions; i++)
                submit(r, IORING_OP_NOP, NULL, 0, 7000u + (uint64_t)i);
}

static void take_left(struct ring *r, int completions)
{
        for (int i = 0; i < completions; i++)
                take(r, 7000u + (uint64_t)i, 0);
        CHECK(*field(r, r->p.cq_off.tail) == r->head && *field(r, r->p.sq_off.head) == r->tail);
}

static struct ring shared;

static void *body(void *waits)
{
        sigset_t awaited;
        int got;

        sigemptyset(&awaited);
        sigaddset(&awaited, SIGUSR1);
        *(volatile pid_t *)waits = tid_of_caller();
        ZERO(sigwait(&awaited, &got));
        CHECK(got == SIGUSR1);
        return NULL;
}

static void kid(void)
{
        tell(told[1]);
        wait_for("go");
        use(&shared, 20);
}

int main(void)
{
        struct ring fresh, used, full, large, bare;
        pthread_t waiting;
        sigset_t awaited;
        pid_t waits = 0;
        char *second;

        file = made_file("file", 64, 4);
        fresh = made(1, 4, IORING_SETUP_CQSIZE);
        used = made(8, 0, 0);
        full = made(4, 32, IORING_SETUP_CQSIZE);
        large = made(1024, 0, NO_SQARRAY);
        bare = made(8, 0, 0);
        shared = made(8, 0, 0);
        use(&used, 1000);
        use(&full, 29);
        leave(&full, 20);
        use(&large, 5000);
        use(&shared, 3);
        second = CALL(mmap(NULL, 4096, PROT_READ, MAP_SHARED, used.fd, IORING_OFF_CQ_RING));
        CALL(munmap(bare.rings, 4096));
        CALL(munmap(bare.sqes, 4096));
        CALL(pipe(told));
        sigemptyset(&awaited);
        sigaddset(&awaited, SIGUSR1);
        ZERO(pthread_sigmask(SIG_BLOCK, &awaited, NULL));
        waiting = started_thread(body, &waits);
        while (!*(volatile pid_t *)&waits)
                sched_yield();
        until_blocked(waits);
        pid_t pid = child(kid);
        hear(told[0]);

        ready_and_wait();
        ZERO(pthread_kill(waiting, SIGUSR1));
        ZERO(pthread_join(waiting, NULL));
        join_child(pid); /* whose copies of the counters are its own */
        use(&fresh, 30);
        use(&used, 300);
        CHECK(!memcmp(second, used.rings, 64));
        take_left(&full, 20);
        use(&full, 100);
        use(&large, 3000);
        shared.tail = *field(&shared, shared.p.sq_off.tail);
        shared.head = *field(&shared, shared.p.cq_off.head);
        CHECK(shared.tail == 23 && shared.head == 23);
        use(&shared, 10);
        map_ring(&bare);
        use(&bare, 20);
        pass();
}
