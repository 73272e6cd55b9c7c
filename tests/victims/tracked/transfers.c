// args: pread
// args: aio
// args: uring
// args: uring_fixed
/*
 * A thread reads blocks of a file into slots of memory, all the time, past the page cache: the
 * device writes to pages that were pinned before. What each slot holds is recorded beside it, and
 * checked before each new read and at the end. `turns`, a shared file, counts for the test.
 *
 * The calls that wait for a context give EINTR when a tracer interrupts their thread.
 *
 * A tree with contexts of asynchronous I/O can't be dumped, so all but pread give them up at the
 * step "settle", and say that they are ready once more.
 */
#include "victim.h"
#include <linux/aio_abi.h>
#include <linux/io_uring.h>

#define SLOTS  16
#define BATCH  8
#define BLOCKS 32
#define BLOCK  (512UL << 10)
#define SEED   7700
/* Of a word of pagemap. */
#define PROTECTED (1ULL << 57)

struct read {
        int slot, block;
};

static char *slots;
static int record[SLOTS]; /* the block that each slot holds */
static int file;
static int stop;
static uint64_t *turns;

static void *slot_of(const struct read *r)
{
        return slots + r->slot * BLOCK;
}

static void read_pread(const struct read *reads, int nr)
{
        for (int i = 0; i < nr; i++)
                CHECK(CALL(pread(file, slot_of(&reads[i]), BLOCK, reads[i].block * BLOCK)) ==
                      (ssize_t)BLOCK);
}

static void nothing(void)
{
}

static aio_context_t context;

static void open_aio(void)
{
        CALL(syscall(SYS_io_setup, BATCH, &context));
}

static void close_aio(void)
{
        CALL(syscall(SYS_io_destroy, context));
}

static void read_aio(const struct read *reads, int nr)
{
        struct iocb requests[BATCH] = {0}, *list[BATCH];
        struct io_event events[BATCH];

        for (int i = 0; i < nr; i++) {
                requests[i] = (struct iocb){
                    .aio_lio_opcode = IOCB_CMD_PREAD,
                    .aio_fildes = file,
                    .aio_buf = (uintptr_t)slot_of(&reads[i]),
                    .aio_nbytes = BLOCK,
                    .aio_offset = reads[i].block * BLOCK,
                };
                list[i] = &requests[i];
        }
        CHECK(CALL(syscall(SYS_io_submit, context, nr, list)) == nr);
        for (int got = 0; got < nr;) {
                long more =
                    syscall(SYS_io_getevents, context, nr - got, nr - got, events + got, NULL);

                CHECK(more >= 0 || errno == EINTR);
                got += more > 0 ? (int)more : 0;
        }
        for (int i = 0; i < nr; i++)
                CHECK(events[i].res == (int64_t)BLOCK);
}

static struct {
        int fd, fixed;
        char *ring;
        struct io_uring_sqe *sqes;
        struct io_uring_params params;
        size_t bytes;
} uring;

static uint32_t *in_ring(uint32_t offset)
{
        return (uint32_t *)(uring.ring + offset);
}

static void open_uring(void)
{
        struct io_uring_params *p = &uring.params;
        struct iovec all = {slots, SLOTS * BLOCK};
        int access = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_POPULATE;

        uring.fd = CALL(syscall(SYS_io_uring_setup, BATCH, p));
        CHECK(p->features & IORING_FEAT_SINGLE_MMAP);
        uring.bytes = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
        uring.ring = mmap(NULL, uring.bytes, access, flags, uring.fd, IORING_OFF_SQ_RING);
        uring.sqes = mmap(NULL, PAGE, access, flags, uring.fd, IORING_OFF_SQES);
        CHECK(uring.ring != MAP_FAILED && uring.sqes != MAP_FAILED);
        if (uring.fixed)
                CALL(syscall(SYS_io_uring_register, uring.fd, IORING_REGISTER_BUFFERS, &all, 1));
}

static void open_uring_fixed(void)
{
        uring.fixed = 1;
        open_uring();
}

static void close_uring(void)
{
        CALL(munmap(uring.ring, uring.bytes));
        CALL(munmap(uring.sqes, PAGE));
        close(uring.fd);
}

static int ready_in_ring(uint32_t head)
{
        return (int)(__atomic_load_n(in_ring(uring.params.cq_off.tail), __ATOMIC_ACQUIRE) - head);
}

static void read_uring(const struct read *reads, int nr)
{
        struct io_uring_params *p = &uring.params;
        uint32_t mask = *in_ring(p->sq_off.ring_mask), tail = *in_ring(p->sq_off.tail);
        uint32_t head = *in_ring(p->cq_off.head);
        struct io_uring_cqe *cqes = (void *)(uring.ring + p->cq_off.cqes);

        for (int i = 0; i < nr; i++, tail++) {
                uring.sqes[tail & mask] = (struct io_uring_sqe){
                    .opcode = uring.fixed ? IORING_OP_READ_FIXED : IORING_OP_READ,
                    .fd = file,
                    .addr = (uintptr_t)slot_of(&reads[i]),
                    .len = BLOCK,
                    .off = reads[i].block * BLOCK,
                };
                in_ring(p->sq_off.array)[tail & mask] = tail & mask;
        }
        __atomic_store_n(in_ring(p->sq_off.tail), tail, __ATOMIC_RELEASE);
        for (int left = nr; left > 0 || ready_in_ring(head) < nr;) {
                long taken = syscall(SYS_io_uring_enter, uring.fd, left, nr - ready_in_ring(head),
                                     IORING_ENTER_GETEVENTS, NULL, 0);

                CHECK(taken >= 0 || errno == EINTR);
                left -= taken > 0 ? (int)taken : 0;
        }
        for (int i = 0; i < nr; i++, head++)
                CHECK(cqes[head & *in_ring(p->cq_off.ring_mask)].res == (int)BLOCK);
        __atomic_store_n(in_ring(p->cq_off.head), head, __ATOMIC_RELEASE);
}

static const struct way {
        const char *name;
        void (*open)(void);
        void (*read)(const struct read *reads, int nr);
        void (*close)(void);
} ways[] = {
    {"pread", nothing, read_pread, nothing},
    {"aio", open_aio, read_aio, close_aio},
    {"uring", open_uring, read_uring, close_uring},
    {"uring_fixed", open_uring_fixed, read_uring, close_uring},
};

static void check_slot(int slot)
{
        if (!filled(slots + slot * BLOCK, BLOCK, SEED + record[slot]))
                say("slot %d is not block %d after %lu turns\n", slot, record[slot], *turns);
        CHECK(filled(slots + slot * BLOCK, BLOCK, SEED + record[slot]));
}

/* A round that comes now finds only the requests that were in flight before it: no new ones, for a
 * while, so that nothing writes their pages again. A descriptor of /proc can't be dumped: this is
 * not for those who may be dumped at any time. */
static void rest_after_a_round(void)
{
        static volatile uint64_t canary[PAGE / 8] __attribute__((aligned(PAGE)));
        struct timespec while_ = {.tv_nsec = 300 * 1000 * 1000};
        int fd = CALL(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
        uint64_t word;

        CHECK(pread(fd, &word, 8, (uintptr_t)canary / PAGE * 8) == 8);
        close(fd);
        if (word & PROTECTED || !canary[0])
                canary[0]++;
        if (word & PROTECTED)
                nanosleep(&while_, NULL);
}

static void *transfer(void *argument)
{
        const struct way *way = argument;
        int at = 0;

        way->open();
        for (uint64_t n = 0; !__atomic_load_n(&stop, __ATOMIC_ACQUIRE); n++) {
                struct read reads[BATCH];

                for (int i = 0; i < BATCH; i++, at = (at + 1) % SLOTS) {
                        check_slot(at);
                        reads[i] = (struct read){at, (int)(pattern(n, i) % BLOCKS)};
                }
                way->read(reads, BATCH);
                if (way != ways)
                        rest_after_a_round();
                for (int i = 0; i < BATCH; i++)
                        record[reads[i].slot] = reads[i].block;
                __atomic_add_fetch(turns, 1, __ATOMIC_RELEASE);
        }
        way->close();
        return NULL;
}

static void make_blocks(void)
{
        char *block = anonymous(BLOCK);

        file = CALL(open(in_folder("blocks"), O_RDWR | O_CREAT, 0644));
        for (int i = 0; i < BLOCKS; i++) {
                fill(block, BLOCK, SEED + i);
                CHECK(write(file, block, BLOCK) == (ssize_t)BLOCK);
        }
        CALL(fsync(file));
        close(file);
        file = CALL(open(in_folder("blocks"), O_RDONLY | O_DIRECT | O_CLOEXEC));
        CALL(munmap(block, BLOCK));
}

int main(int argc, char **argv)
{
        const struct way *way = ways;

        CHECK(argc == 2);
        while (strcmp(way->name, argv[1]))
                CHECK(++way < ways + sizeof(ways) / sizeof(*ways));
        make_blocks();
        slots = anonymous(SLOTS * BLOCK);
        for (int i = 0; i < SLOTS; i++)
                fill(slots + i * BLOCK, BLOCK, SEED);
        int shared = made_file("turns", PAGE, 0);
        turns = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
        CHECK(turns != MAP_FAILED);
        close(shared);
        *turns = 0;
        CALL(mkfifo(in_folder("settle"), 0666));
        pthread_t thread = started_thread(transfer, (void *)way);
        ready();
        if (way != ways) {
                wait_for("settle");
                __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
                ZERO(pthread_join(thread, NULL));
                ready();
        }
        wait_for("go");
        if (way == ways) {
                __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
                ZERO(pthread_join(thread, NULL));
        }
        for (int i = 0; i < SLOTS; i++)
                check_slot(i);
        pass();
}
