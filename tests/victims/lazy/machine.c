// args: 1 400
/* Threads that read, write, discard, unmap, map, move and protect memory, and fork children that do
 * the same, by a seeded chance; each knows of every page what it must hold. After "go" all of it
 * happens on memory that may not have arrived. */
#include "victim.h"

#define NR_THREADS 3
#define NR_PAGES   1024UL
#define ZERO_PAGE  0UL
#define NONE       (~0UL)

struct area {
        char *base;
        uint64_t *holds; /* a seed for each page */
        uint64_t state;
        uint64_t next_seed;
};

static unsigned long nr_steps;
static struct area areas[NR_THREADS];

static uint64_t chance(struct area *area, uint64_t below)
{
        area->state += 0x9E3779B97F4A7C15ULL;
        return pattern(area->state, 7) % below;
}

static void check_page(const struct area *area, uint64_t page)
{
        const char *at = area->base + page * PAGE;
        uint64_t seed = area->holds[page];

        if (seed == NONE)
                return;
        if (seed == ZERO_PAGE ? !all_zero(at, PAGE) : !filled(at, PAGE, seed)) {
                say("page %lu at %p, wanted %lx\n", page, (const void *)at, seed);
                CHECK(!"the page holds what it must");
        }
}

static void write_page(struct area *area, uint64_t page)
{
        if (area->holds[page] == NONE)
                return;
        area->holds[page] = ++area->next_seed;
        fill(area->base + page * PAGE, PAGE, area->holds[page]);
}

/* Some pages that are all mapped, or none. */
static uint64_t some(struct area *area, uint64_t *page)
{
        uint64_t nr = 1 + chance(area, 40);

        *page = chance(area, NR_PAGES - nr);
        for (uint64_t i = 0; i < nr; i++)
                if (area->holds[*page + i] == NONE)
                        return i;
        return nr;
}

static void set(struct area *area, uint64_t page, uint64_t nr, uint64_t seed)
{
        for (uint64_t i = 0; i < nr; i++)
                area->holds[page + i] = seed;
}

static void discard(struct area *area)
{
        uint64_t page, nr = some(area, &page);

        if (!nr)
                return;
        CALL(madvise(area->base + page * PAGE, nr * PAGE, MADV_DONTNEED));
        set(area, page, nr, ZERO_PAGE);
}

static void unmap(struct area *area)
{
        uint64_t page, nr = some(area, &page);

        if (!nr)
                return;
        CALL(munmap(area->base + page * PAGE, nr * PAGE));
        set(area, page, nr, NONE);
}

static void map(struct area *area)
{
        uint64_t nr = 1 + chance(area, 40), page = chance(area, NR_PAGES - nr);
        char *at = area->base + page * PAGE;

        CHECK(mmap(at, nr * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                   -1, 0) == at);
        set(area, page, nr, ZERO_PAGE);
}

static int is_mapped(const char *at)
{
        unsigned char byte;

        return mincore((void *)at, PAGE, &byte) == 0;
}

/* Pages of several mappings may not move together: then those of the first ones have (Linux 6.17).
 */
static void move(struct area *area)
{
        uint64_t from, nr = some(area, &from), moved = nr, to;
        char *source, *target;

        if (!nr)
                return;
        to = chance(area, NR_PAGES - nr);
        if (to < from + nr && from < to + nr)
                return;
        source = area->base + from * PAGE;
        target = area->base + to * PAGE;
        CALL(munmap(target, nr * PAGE));
        set(area, to, nr, NONE);
        if (mremap(source, nr * PAGE, nr * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target) != target) {
                CHECK(errno == EFAULT);
                for (moved = 0; moved < nr && !is_mapped(source + moved * PAGE);)
                        moved++;
        }
        memcpy(&area->holds[to], &area->holds[from], moved * sizeof(uint64_t));
        set(area, from, moved, NONE);
}

static void protect(struct area *area)
{
        uint64_t page, nr = some(area, &page);

        if (!nr)
                return;
        CALL(mprotect(area->base + page * PAGE, nr * PAGE, PROT_READ));
        check_page(area, page);
        CALL(mprotect(area->base + page * PAGE, nr * PAGE, PROT_READ | PROT_WRITE));
}

/* The kernel itself writes and reads pages that may be missing. */
static void through_a_pipe(struct area *area)
{
        uint64_t from = chance(area, NR_PAGES), to = chance(area, NR_PAGES);
        int ends[2];

        if (area->holds[from] == NONE || area->holds[to] == NONE)
                return;
        CALL(pipe2(ends, O_CLOEXEC));
        CHECK(write(ends[1], area->base + from * PAGE, PAGE) == (ssize_t)PAGE);
        CHECK(read(ends[0], area->base + to * PAGE, PAGE) == (ssize_t)PAGE);
        area->holds[to] = area->holds[from];
        close(ends[0]);
        close(ends[1]);
}

static void steps(struct area *area, unsigned long nr, int may_fork);

static void beget(struct area *area)
{
        pid_t pid = CALL(fork());
        int status;

        if (pid == 0) {
                area->state ^= 0x5555;
                steps(area, 20, 0);
                for (uint64_t page = chance(area, 8); page < NR_PAGES; page += 8)
                        check_page(area, page);
                _exit(0);
        }
        /* Both go on at once for a while. */
        for (int i = 0; i < 10; i++)
                write_page(area, chance(area, NR_PAGES));
        CHECK(CALL(waitpid(pid, &status, 0)) == pid);
        if (status)
                say("child %d ended with status %#x\n", pid, status);
        CHECK(!status);
}

static void steps(struct area *area, unsigned long nr, int may_fork)
{
        for (unsigned long i = 0; i < nr; i++)
                switch (chance(area, 40)) {
                case 0:
                        if (may_fork)
                                beget(area);
                        break;
                case 1:
                case 2:
                        discard(area);
                        break;
                case 3:
                        unmap(area);
                        break;
                case 4:
                        map(area);
                        break;
                case 5:
                case 6:
                case 7:
                        move(area);
                        break;
                case 8:
                        protect(area);
                        break;
                case 9:
                        through_a_pipe(area);
                        break;
                case 10:
                case 11:
                case 12:
                case 13:
                        write_page(area, chance(area, NR_PAGES));
                        break;
                default:
                        check_page(area, chance(area, NR_PAGES));
                }
}

static void *run(void *argument)
{
        struct area *area = argument;

        wait_for("go");
        steps(area, nr_steps, 1);
        for (uint64_t page = 0; page < NR_PAGES; page++)
                check_page(area, page);
        return NULL;
}

int main(UNUSED int argc, char **argv)
{
        uint64_t seed = strtoul(argv[1], NULL, 10);
        pthread_t threads[NR_THREADS];

        nr_steps = strtoul(argv[2], NULL, 10);
        for (int i = 0; i < NR_THREADS; i++) {
                areas[i].base = anonymous(NR_PAGES * PAGE);
                areas[i].holds = anonymous(NR_PAGES * sizeof(uint64_t));
                areas[i].state = seed * 1000 + (uint64_t)i;
                for (uint64_t page = 0; page < NR_PAGES; page++)
                        if (chance(&areas[i], 10)) /* the others are holes */
                                write_page(&areas[i], page);
        }
        for (int i = 0; i < NR_THREADS; i++)
                threads[i] = started_thread(run, &areas[i]);
        ready();
        for (int i = 0; i < NR_THREADS; i++)
                ZERO(pthread_join(threads[i], NULL));
        pass();
}
