// args: 1 300 calm
/* Memory that a parent and its child share: 8 MiB, of which the parent has a part mapped a second
 * time, and of which every fourth page was never written. After "go" both read and write it page by
 * page, in turns and by a seeded chance; without "calm" the parent also discards it, punches holes,
 * moves its mapping, maps it once more and forks. It knows of every page what it must hold. */
#include "victim.h"

#define NR_PAGES 2048UL
#define SIZE     (NR_PAGES * PAGE)
#define SECOND   512UL /* pages of the second mapping, from page number SECOND on */

struct order {
        uint64_t page;
        uint64_t wanted;
        uint64_t then; /* 0: leave it */
};

static char *view, *second;
static uint64_t holds[NR_PAGES], state, next_seed = 1UL << 32;
static int orders[2], answers[2];

static uint64_t chance(uint64_t below)
{
        state += 0x9E3779B97F4A7C15ULL;
        return pattern(state, 7) % below;
}

static void check_at(const char *at, uint64_t page, uint64_t seed)
{
        if (seed ? !filled(at, PAGE, seed) : !all_zero(at, PAGE)) {
                say("page %lu at %p, wanted %lx\n", page, (const void *)at, seed);
                CHECK(!"the page holds what it must");
        }
}

static void carry_out(const struct order *order)
{
        check_at(view + order->page * PAGE, order->page, order->wanted);
        if (order->then)
                fill(view + order->page * PAGE, PAGE, order->then);
}

static void kid(void)
{
        struct order order;

        CALL(close(orders[1]));
        CALL(close(answers[0]));
        while (read(orders[0], &order, sizeof(order)) == sizeof(order)) {
                carry_out(&order);
                tell(answers[1]);
        }
}

/* The child, at times a new one, or we ourselves look at a page, and write it at times. */
static void look(uint64_t page, int who)
{
        struct order order = {
            .page = page, .wanted = holds[page], .then = chance(3) ? 0 : ++next_seed};

        if (order.then)
                holds[page] = order.then;
        if (who == 0) {
                carry_out(&order);
        } else if (who == 1) {
                CHECK(write(orders[1], &order, sizeof(order)) == sizeof(order));
                hear(answers[0]);
        } else {
                pid_t pid = CALL(fork());

                if (pid == 0) {
                        carry_out(&order);
                        _exit(0);
                }
                join_child(pid);
        }
}

static void give_back(int advice)
{
        uint64_t nr = 1 + chance(64), page = chance(NR_PAGES - nr);

        CALL(madvise(view + page * PAGE, nr * PAGE, advice));
        for (uint64_t i = page; advice == MADV_REMOVE && i < page + nr; i++)
                holds[i] = 0;
}

static void move(void)
{
        char *to = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        CHECK(to != MAP_FAILED);
        CHECK(mremap(view, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
        view = to;
}

static void map_again(void)
{
        uint64_t page = chance(NR_PAGES - 8);
        char *again = mremap(view + page * PAGE, 0, 8 * PAGE, MREMAP_MAYMOVE);

        CHECK(again != MAP_FAILED);
        for (uint64_t i = 0; i < 8; i++)
                check_at(again + i * PAGE, page + i, holds[page + i]);
        CALL(munmap(again, 8 * PAGE));
}

static void unruly(void)
{
        switch (chance(12)) {
        case 0:
                give_back(MADV_DONTNEED);
                return;
        case 1:
                give_back(MADV_REMOVE);
                return;
        case 2:
                move();
                return;
        case 3:
                map_again();
                return;
        default:
                look(chance(NR_PAGES), 2);
        }
}

static void step(int calm)
{
        uint64_t page = chance(NR_PAGES);

        if (!calm && chance(10) == 0)
                unruly();
        else if (page >= SECOND && page < 2 * SECOND && chance(2))
                check_at(second + (page - SECOND) * PAGE, page, holds[page]);
        else
                look(page, (int)chance(2));
}

int main(int argc, char **argv)
{
        unsigned long nr_steps = strtoul(argv[2], NULL, 10);

        state = strtoul(argv[1], NULL, 10);
        view = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(view != MAP_FAILED);
        for (uint64_t page = 0; page < NR_PAGES; page++)
                if (page % 4)
                        fill(view + page * PAGE, PAGE, holds[page] = page);
        second = mremap(view + SECOND * PAGE, 0, SECOND * PAGE, MREMAP_MAYMOVE);
        CHECK(second != MAP_FAILED);
        CALL(pipe(orders));
        CALL(pipe(answers));
        pid_t pid = child(kid);
        CALL(close(orders[0]));
        CALL(close(answers[1]));
        ready_and_wait();
        while (nr_steps--)
                step(argc > 3);
        for (uint64_t page = 0; page < NR_PAGES; page++) {
                check_at(view + page * PAGE, page, holds[page]);
                look(page, 1);
        }
        CALL(close(orders[1]));
        join_child(pid);
        pass();
}
