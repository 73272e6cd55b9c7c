// SPDX-License-Identifier: GPL-2.0-only
/*
 * calls: threads that do nothing but call memory functions at random, and check each result, each
 * content, and that what they can't read is not there (world.h).
 *
 *     calls SEED [split] [STEPS...]
 *
 * `split`: mremap(2) is also asked for memory of several mappings, which works where the kernel has
 * made one of them. STEPS: so many in each world, and then it ends by itself, without a test.
 */
#include "advice.h"
#include "copying.h"
#include "mapping.h"
#include "moving.h"

#include <sched.h>
#include <stdatomic.h>

#define NR_WORLDS  4
#define NR_THREADS 3
#define AT_A_TIME  16
#define MOST_STEPS 20000000

typedef void step(struct world *w);

static struct world worlds[NR_WORLDS];
static pthread_mutex_t locks[NR_WORLDS];
static uint64_t last_step[NR_WORLDS];
static atomic_int stopping;

static void step_truncate(struct world *w)
{
        struct object *memfd = &w->objects[MEMFD];
        size_t nr = draw(w, NR_CELLS / 2);

        CALL(ftruncate(w->memfd, (off_t)(nr * PAGE)));
        for (size_t i = nr; i < NR_CELLS; i++)
                memfd->value[i] = 0;
        memfd->nr_pages = nr;
        for (size_t i = 0; i < NR_PAGES; i++)
                if (w->pages[i].mapped && w->pages[i].object == MEMFD && w->pages[i].cell >= nr)
                        w->pages[i].flags &= (uint8_t)~OWN;
}

static void check_child(struct world *w)
{
        for (size_t i = 0; i < NR_PAGES; i++) {
                struct page *p = &w->pages[i];
                char byte;
                struct iovec to = {&byte, 1}, from = {at(w, i), 1};

                if (p->flags & NOT_FORKED)
                        p->mapped = 0;
                if (p->flags & WIPED)
                        set_value(w, p, 0);
                if (can(w, p, PROT_READ))
                        check_page(w, i);
                else
                        HOLDS(w, i,
                              process_vm_readv(getpid(), &to, 1, &from, 1, 0) < 0 &&
                                  errno == EFAULT);
        }
}

static void step_fork(struct world *w)
{
        if (draw(w, 64))
                return;
        pid_t pid = CALL(fork());
        if (!pid) {
                check_child(w);
                _exit(0);
        }
        join_child(pid);
}

/* The heap belongs to the first world, and malloc(3) is not called. */
static void step_break(struct world *w)
{
        if (w->number)
                return;
        if (!w->breaks[0]) {
                char *end = sbrk(0);
                w->breaks[0] = w->breaks[1] = end + (-(uintptr_t)end & (PAGE - 1));
                CHECK(brk(w->breaks[0]) == 0);
        }
        char *wanted = w->breaks[0] + draw(w, 64) * PAGE;
        size_t old = (size_t)(w->breaks[1] - w->breaks[0]);
        size_t new = (size_t)(wanted - w->breaks[0]);

        CHECK(sbrk(0) == w->breaks[1]);
        CHECK(filled(w->breaks[0], old, 99));
        CHECK(brk(wanted) == 0);
        if (new > old)
                CHECK(all_zero(w->breaks[1], new - old));
        w->breaks[1] = wanted;
        fill(w->breaks[0], new, 99);
}

/* As realloc(3) does with large pieces. */
static void step_roam(struct world *w)
{
        size_t nr = 1 + draw(w, 128), keep = nr < w->roamer_pages ? nr : w->roamer_pages;

        if (!w->roamer) {
                w->roamer = anonymous(PAGE);
                w->roamer_pages = keep = 1;
        } else {
                CHECK(filled(w->roamer, w->roamer_pages * PAGE, w->roamer_seed));
        }
        char *got = mremap(w->roamer, w->roamer_pages * PAGE, nr * PAGE, MREMAP_MAYMOVE);
        CHECK(got != MAP_FAILED);
        if (w->roamer_seed)
                CHECK(filled(got, keep * PAGE, w->roamer_seed));
        if (nr > w->roamer_pages)
                CHECK(all_zero(got + keep * PAGE, (nr - keep) * PAGE));
        w->roamer = got;
        w->roamer_pages = nr;
        w->roamer_seed = 1 + draw(w, 1000);
        fill(got, nr * PAGE, w->roamer_seed);
}

/* Memory that grows downwards by being written to. */
static void step_stack(struct world *w)
{
        char *top = w->base - (4UL << 20);
        size_t nr = 1 + draw(w, 64);
        char *base = mmap(top - PAGE, PAGE, RW,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN, -1, 0);

        CHECK(base == top - PAGE);
        for (size_t i = 1; i <= nr; i++)
                *(uint64_t *)(top - i * PAGE) = i;
        for (size_t i = 1; i <= nr; i++)
                CHECK(*(uint64_t *)(top - i * PAGE) == i);
        CALL(munmap(top - nr * PAGE, nr * PAGE));
}

static step *const steps[] = {
    step_map,          step_map,          step_map,    step_map_shared, step_map_memfd,
    step_map_memfd,    step_unmap,        step_unmap,  step_protect,    step_protect,
    step_protect_back, step_protect_back, step_write,  step_write,      step_write,
    step_write,        step_check,        step_check,  step_read_call,  step_read_call,
    step_write_call,   step_advise,       step_advise, step_advise,     step_lock,
    step_unlock,       step_sync,         step_resize, step_resize,     step_resize,
    step_move,         step_move,         step_move,   step_double,     step_truncate,
    step_fork,         step_break,        step_roam,   step_roam,       step_stack,
};

static void *walk(void *unused)
{
        unsigned nr_idle = 0;

        for (unsigned i = 0; !stopping && nr_idle < NR_WORLDS; i = (i + 1) % NR_WORLDS) {
                struct world *w = &worlds[i];

                if (pthread_mutex_trylock(&locks[i])) {
                        sched_yield();
                        continue;
                }
                int idle = w->nr_steps >= last_step[i];
                nr_idle = idle ? nr_idle + 1 : 0;
                for (int n = 0; n < AT_A_TIME && w->nr_steps < last_step[i]; n++) {
                        steps[draw(w, sizeof(steps) / sizeof(steps[0]))](w);
                        w->nr_steps++;
                        if (w->nr_steps % 256 == 0)
                                check_all(w);
                }
                pthread_mutex_unlock(&locks[i]);
        }
        return unused;
}

static void begin(struct world *w, uint64_t number, uint64_t seed, int merging)
{
        w->number = number;
        w->state = pattern(seed, number) | 1;
        w->base = (char *)(0x100000000000UL + number * (1UL << 30) + (number % 2 ? 0 : 123 * PAGE));
        w->merging = merging;
        w->memfd = CALL(memfd_create("object", MFD_CLOEXEC));
        ZERO(pthread_mutex_init(&locks[number], NULL));
}

int main(int argc, char **argv)
{
        int merging = argc > 2 && !strcmp(argv[2], "split");
        char **limits = argv + 2 + merging;
        int nr_limits = argc - 2 - merging;
        pthread_t threads[NR_THREADS];

        for (int i = 0; i < NR_WORLDS; i++) {
                begin(&worlds[i], (uint64_t)i, strtoul(argv[1], NULL, 0), merging);
                last_step[i] = i < nr_limits ? strtoul(limits[i], NULL, 0) : MOST_STEPS;
        }
        for (int i = 0; i < NR_THREADS; i++)
                threads[i] = started_thread(walk, NULL);
        if (nr_limits <= 0) {
                ready_and_wait();
                stopping = 1;
        }
        for (int i = 0; i < NR_THREADS; i++)
                ZERO(pthread_join(threads[i], NULL));
        for (int i = 0; i < NR_WORLDS; i++) {
                check_all(&worlds[i]);
                say("%lu %lx %lu\n", worlds[i].nr_steps, worlds[i].hash, worlds[i].nr_split);
        }
        pass();
}
