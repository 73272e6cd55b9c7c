// args: 1 200 3
/* Threads that treat blocks of memory as an allocator and the programs above it do: they grow and
 * shrink them where they are, move them, lock, populate, protect and discard them, hand them to the
 * kernel in many ways, take signals on them, and fork children that go on with that; by a seeded
 * chance, in so many steps, or fewer once "enough" is said. With "stays" no block moves. Each knows
 * what every page must hold and what every call must return. After "go" all of it happens on memory
 * that may not have arrived. */
#include "victim.h"

#include <linux/futex.h>
#include <sys/uio.h>

#define NR_SLOTS   6
#define SLOT_PAGES 256UL
#define NR_COMMON  512UL
#define ZERO_PAGE  0UL
#define STACK_NR   8UL

struct block {
        char *at;    /* where the slot begins */
        uint64_t nr; /* pages of it that are there; 0: it is free */
        uint64_t holds[SLOT_PAGES];
};

struct area {
        struct block slots[NR_SLOTS];
        uint64_t state;
        uint64_t next_seed;
        unsigned long nr_steps;
};

static char *common;
static int storage;
static int enough, stays;

static uint64_t chance(struct area *area, uint64_t below)
{
        area->state += 0x9E3779B97F4A7C15ULL;
        return pattern(area->state, 7) % below;
}

static int page_is(const char *at, uint64_t seed)
{
        return seed == ZERO_PAGE ? all_zero(at, PAGE) : filled(at, PAGE, seed);
}

static void check_page(const struct block *block, uint64_t page)
{
        const char *at = block->at + page * PAGE;

        if (!page_is(at, block->holds[page])) {
                say("page %lu at %p, wanted %lx\n", page, (const void *)at, block->holds[page]);
                CHECK(!"the page holds what it must");
        }
}

static void write_page(struct area *area, struct block *block, uint64_t page)
{
        block->holds[page] = ++area->next_seed;
        fill(block->at + page * PAGE, PAGE, block->holds[page]);
}

static void zeros(struct block *block, uint64_t from, uint64_t to)
{
        while (from < to)
                block->holds[from++] = ZERO_PAGE;
}

static struct block *any(struct area *area)
{
        for (;;) {
                struct block *block = &area->slots[chance(area, NR_SLOTS)];

                if (block->nr)
                        return block;
        }
}

/* Where a block may move to. */
static struct block *unused(struct area *area)
{
        if (stays)
                return NULL;
        for (int i = 0; i < NR_SLOTS; i++)
                if (!area->slots[i].nr)
                        return &area->slots[i];
        return NULL;
}

/* Some pages of a block: *nr of them, from the one that is returned on. */
static uint64_t some(struct area *area, const struct block *block, uint64_t *nr)
{
        uint64_t page = chance(area, block->nr);

        *nr = 1 + chance(area, block->nr - page < 40 ? block->nr - page : 40);
        return page;
}

/* ---- the block itself */

static void grow(struct area *area, struct block *block)
{
        for (uint64_t n = chance(area, 20); n && block->nr < SLOT_PAGES; n--) {
                CHECK(mremap(block->at, block->nr * PAGE, (block->nr + 1) * PAGE, 0) == block->at);
                zeros(block, block->nr, block->nr + 1);
                block->nr++;
        }
}

static void shrink(struct area *area, struct block *block)
{
        uint64_t nr = 1 + chance(area, block->nr);

        CHECK(mremap(block->at, block->nr * PAGE, nr * PAGE, 0) == block->at);
        block->nr = nr;
}

static void move(struct area *area, struct block *block)
{
        struct block *to = unused(area);
        uint64_t more = chance(area, 2) * (SLOT_PAGES - block->nr);

        if (!to)
                return;
        CHECK(mremap(block->at, block->nr * PAGE, (block->nr + more) * PAGE,
                     MREMAP_MAYMOVE | MREMAP_FIXED, to->at) == to->at);
        memcpy(to->holds, block->holds, sizeof(to->holds));
        to->nr = block->nr + more;
        zeros(to, block->nr, to->nr);
        block->nr = 0;
}

/* The old place is still mapped then, and empty. */
static void move_out(struct area *area, struct block *block)
{
        struct block *to = unused(area);

        if (!to)
                return;
        CHECK(mremap(block->at, block->nr * PAGE, block->nr * PAGE,
                     MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to->at) == to->at);
        memcpy(to->holds, block->holds, sizeof(to->holds));
        to->nr = block->nr;
        zeros(block, 0, block->nr);
}

static void unmap(struct area *area, struct block *block)
{
        if (!unused(area) || chance(area, 2)) {
                CALL(munmap(block->at, block->nr * PAGE));
                block->nr = 1 + chance(area, SLOT_PAGES);
                CHECK(mmap(block->at, block->nr * PAGE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == block->at);
                zeros(block, 0, block->nr);
        }
}

static void discard(struct area *area, struct block *block)
{
        uint64_t nr, page = some(area, block, &nr);

        CALL(madvise(block->at + page * PAGE, nr * PAGE, MADV_DONTNEED));
        zeros(block, page, page + nr);
}

static void advise(struct area *area, struct block *block)
{
        static const int advices[] = {MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLD,
                                      MADV_PAGEOUT,       MADV_WILLNEED,       MADV_HUGEPAGE,
                                      MADV_NOHUGEPAGE};
        uint64_t nr, page = some(area, block, &nr);

        CALL(madvise(block->at, block->nr * PAGE, MADV_COLD));
        CALL(madvise(block->at + page * PAGE, nr * PAGE, advices[chance(area, 5)]));
        CALL(madvise(block->at, block->nr * PAGE, advices[5 + chance(area, 2)]));
        check_page(block, page);
}

static void lock(struct area *area, struct block *block)
{
        int flags = (int)chance(area, 2);

        CALL(mlock2(block->at, block->nr * PAGE, flags ? MLOCK_ONFAULT : 0));
        if (block->nr < SLOT_PAGES && chance(area, 2))
                grow(area, block);
        check_page(block, chance(area, block->nr));
        CALL(munlock(block->at, block->nr * PAGE));
}

static void protect(struct area *area, struct block *block)
{
        int ends[2], mode = chance(area, 2) ? PROT_READ : PROT_NONE;

        CALL(pipe2(ends, O_CLOEXEC));
        CHECK(write(ends[1], common, PAGE) == (ssize_t)PAGE);
        CALL(mprotect(block->at, block->nr * PAGE, mode));
        CHECK(read(ends[0], block->at, PAGE) == -1 && errno == EFAULT);
        CALL(mprotect(block->at, block->nr * PAGE, PROT_READ | PROT_WRITE));
        close(ends[0]);
        close(ends[1]);
}

/* ---- the kernel reads and writes it */

static void through_a_pipe(struct area *area, struct block *from, struct block *to)
{
        uint64_t page = chance(area, from->nr), other = chance(area, to->nr);
        struct iovec piece = {from->at + page * PAGE, PAGE};
        int ends[2];

        CALL(pipe2(ends, O_CLOEXEC));
        CHECK((chance(area, 2) ? vmsplice(ends[1], &piece, 1, 0) : writev(ends[1], &piece, 1)) ==
              (ssize_t)PAGE);
        CHECK(read(ends[0], to->at + other * PAGE, PAGE) == (ssize_t)PAGE);
        to->holds[other] = from->holds[page];
        close(ends[0]);
        close(ends[1]);
}

static void through_a_disk(struct area *area, struct block *from, struct block *to, off_t place)
{
        uint64_t page = chance(area, from->nr), other = chance(area, to->nr);

        CHECK(pwrite(storage, from->at + page * PAGE, PAGE, place) == (ssize_t)PAGE);
        CHECK(pread(storage, to->at + other * PAGE, PAGE, place) == (ssize_t)PAGE);
        to->holds[other] = from->holds[page];
}

static void through_the_kernel(struct area *area, struct block *from, struct block *to)
{
        uint64_t page = chance(area, from->nr), other = chance(area, to->nr);
        struct iovec here = {to->at + other * PAGE, PAGE}, there = {from->at + page * PAGE, PAGE};

        if (from == to && page == other)
                return;
        if (chance(area, 2))
                CHECK(process_vm_readv(getpid(), &here, 1, &there, 1, 0) == (ssize_t)PAGE);
        else
                CHECK(process_vm_writev(getpid(), &there, 1, &here, 1, 0) == (ssize_t)PAGE);
        to->holds[other] = from->holds[page];
}

static void wait_there(struct area *area, struct block *block)
{
        uint64_t page = chance(area, block->nr);
        uint32_t *word = (uint32_t *)(block->at + page * PAGE);
        uint32_t wanted = block->holds[page] ? (uint32_t)pattern(block->holds[page], 0) : 0;
        int shared = chance(area, 2) ? 0 : FUTEX_PRIVATE_FLAG;

        CHECK(syscall(SYS_futex, word, FUTEX_WAIT | shared, wanted + 1, NULL, NULL, 0) == -1);
        CHECK(errno == EAGAIN);
        CHECK(syscall(SYS_futex, word, FUTEX_WAKE | shared, 1, NULL, NULL, 0) == 0);
        check_page(block, page);
}

static void handle(UNUSED int number)
{
}

/* The frame of a signal is on pages of the block. */
static void take_signal(struct area *area, struct block *block)
{
        stack_t none = {.ss_flags = SS_DISABLE}, there = {.ss_size = STACK_NR * PAGE};
        uint64_t page;

        if (block->nr < STACK_NR)
                return;
        page = chance(area, block->nr - STACK_NR + 1);
        there.ss_sp = block->at + page * PAGE;
        CALL(sigaltstack(&there, NULL));
        ZERO(pthread_kill(pthread_self(), SIGUSR1));
        CALL(sigaltstack(&none, NULL));
        for (uint64_t i = 0; i < STACK_NR; i++)
                write_page(area, block, page + i);
}

/* ---- children */

static void check_all(struct area *area)
{
        for (int i = 0; i < NR_SLOTS; i++)
                for (uint64_t page = 0; page < area->slots[i].nr; page++)
                        check_page(&area->slots[i], page);
}

static void steps(struct area *area, unsigned long nr, int may_fork);

static void beget(struct area *area, int generations)
{
        pid_t pid = CALL(fork());
        struct block *block;

        if (pid == 0) {
                area->state ^= 0x5555;
                steps(area, 10, generations - 1);
                check_all(area);
                if (chance(area, 2))
                        _exit(0);
                CALL(execl("/proc/self/exe", "blocks", "child", NULL));
        }
        block = any(area);
        for (int i = 0; i < 10; i++)
                write_page(area, block, chance(area, block->nr));
        join_child(pid);
}

static void beget_quickly(void)
{
        pid_t pid = CALL(vfork());

        if (pid == 0) {
                execl("/proc/self/exe", "blocks", "child", NULL);
                _exit(1);
        }
        join_child(pid);
}

static void step(struct area *area, int generations)
{
        struct block *one = any(area), *other = any(area);
        off_t place = (off_t)((uintptr_t)area->slots[0].at % (1 << 30));
        uint64_t page = chance(area, NR_COMMON);

        switch (chance(area, 40)) {
        case 0:
                return generations ? beget(area, generations) : grow(area, one);
        case 1:
                return chance(area, 4) ? shrink(area, one) : beget_quickly();
        case 2 ... 5:
                return grow(area, one);
        case 6:
                return shrink(area, one);
        case 7 ... 9:
                return move(area, one);
        case 10:
                return move_out(area, one);
        case 11:
                return unmap(area, one);
        case 12 ... 13:
                return discard(area, one);
        case 14 ... 15:
                return advise(area, one);
        case 16:
                return lock(area, one);
        case 17:
                return protect(area, one);
        case 18 ... 19:
                return through_a_pipe(area, one, other);
        case 20 ... 21:
                return through_a_disk(area, one, other, place);
        case 22 ... 23:
                return through_the_kernel(area, one, other);
        case 24:
                return wait_there(area, one);
        case 25:
                return take_signal(area, one);
        case 26 ... 28:
                return write_page(area, one, chance(area, one->nr));
        case 29 ... 32:
                CHECK(page_is(common + page * PAGE, page + 1));
                return;
        default:
                return check_page(one, chance(area, one->nr));
        }
}

static void steps(struct area *area, unsigned long nr, int generations)
{
        while (nr-- && !__atomic_load_n(&enough, __ATOMIC_RELAXED))
                step(area, generations);
}

static void *run(void *argument)
{
        struct area *area = argument;

        wait_for("go");
        steps(area, area->nr_steps, 2);
        check_all(area);
        return NULL;
}

/* Slots with room behind each, of which all but one hold something. */
static void build(struct area *area, uint64_t seed)
{
        uint64_t room = 2 * SLOT_PAGES * PAGE;
        char *all = anonymous(NR_SLOTS * room);

        CALL(munmap(all, NR_SLOTS * room));
        area->state = seed;
        for (int i = 0; i < NR_SLOTS; i++) {
                struct block *slot = &area->slots[i];

                slot->at = all + (uint64_t)i * room;
                if (i == NR_SLOTS - 1)
                        break;
                slot->nr = 1 + chance(area, SLOT_PAGES);
                CHECK(mmap(slot->at, slot->nr * PAGE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == slot->at);
                for (uint64_t page = 0; page < slot->nr; page++)
                        if (chance(area, 10)) /* the others are holes */
                                write_page(area, slot, page);
        }
}

int main(int argc, char **argv)
{
        unsigned nr_threads;
        pthread_t threads[16];
        struct area *areas;

        if (argc == 2)
                return 0; /* a child of ours */
        nr_threads = (unsigned)strtoul(argv[3], NULL, 10);
        CHECK(signal(SIGUSR1, handle) != SIG_ERR);
        CALL(sigaction(SIGUSR1, &(struct sigaction){.sa_handler = handle, .sa_flags = SA_ONSTACK},
                       NULL));
        stays = argc > 4 && !strcmp(argv[4], "stays");
        if (argc > 4)
                CALL(mkfifo(in_folder("enough"), 0600));
        storage = CALL(open(in_folder("storage"), O_RDWR | O_CREAT | O_CLOEXEC | O_DIRECT, 0600));
        common = anonymous(NR_COMMON * PAGE);
        for (uint64_t page = 0; page < NR_COMMON; page++)
                fill(common + page * PAGE, PAGE, page + 1);
        areas = anonymous(nr_threads * sizeof(*areas) + PAGE);
        for (unsigned i = 0; i < nr_threads; i++) {
                build(&areas[i], strtoul(argv[1], NULL, 10) * 1000 + i);
                areas[i].nr_steps = strtoul(argv[2], NULL, 10);
        }
        for (unsigned i = 0; i < nr_threads; i++)
                threads[i] = started_thread(run, &areas[i]);
        ready();
        if (argc > 4) {
                wait_for("enough");
                __atomic_store_n(&enough, 1, __ATOMIC_SEQ_CST);
        }
        for (unsigned i = 0; i < nr_threads; i++)
                ZERO(pthread_join(threads[i], NULL));
        pass();
}
