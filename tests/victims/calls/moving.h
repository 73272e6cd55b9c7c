/* Steps of a world: mremap(2). */
#ifndef MOVING_H
#define MOVING_H

#include "mapping.h"

static long asked(struct world *w, struct run run, size_t old_nr, size_t nr, int flags, size_t to)
{
        void *got = mremap(at(w, run.first), old_nr * PAGE, nr * PAGE, flags, at(w, to));

        if (got != MAP_FAILED) {
                HOLDS(w, to, got == at(w, to));
                note(w, nr);
                return 0;
        }
        w->nr_split += errno == EFAULT;
        note(w, (uint64_t)errno);
        return -errno;
}

/* What is at `to` after `old` pages became `nr` pages there. */
static void moved(struct world *w, const struct page *from, size_t old, size_t to, size_t nr)
{
        static __thread struct page pages[NR_PAGES];
        size_t keep = old < nr ? old : nr;
        const struct page *last = &from[old - 1];

        memcpy(pages, from, old * sizeof(struct page));
        struct page model = *last;
        model.value = 0;
        model.flags &= (uint8_t)~(MAYBE_FREED | OWN);
        for (size_t i = keep; i < nr; i++) {
                pages[i] = model;
                pages[i].cell = (uint16_t)(model.cell + (i - old + 1));
        }
        memcpy(&w->pages[to], pages, nr * sizeof(struct page));
}

static void step_resize(struct world *w)
{
        struct run run = movable(w, any_run(w, NR_PAGES / 4));
        size_t nr = 1 + draw(w, 2 * run.nr + 1);

        if (!run.nr || run.first + nr > NR_PAGES || nr == run.nr)
                return;
        struct run more = {run.first + run.nr, nr > run.nr ? nr - run.nr : 0};
        int room = is_free(w, more);
        long result = asked(w, run, run.nr, nr, 0, run.first);
        if (result) {
                HOLDS(w, run.first, result == -EFAULT || (!room && result == -ENOMEM));
                if (nr < run.nr)
                        unmap(w, (struct run){run.first + nr, run.nr - nr});
                return;
        }
        if (nr > run.nr)
                moved(w, &w->pages[run.first], run.nr, run.first, nr);
        else
                forget(w, (struct run){run.first + nr, run.nr - nr});
}

static int overlap(size_t a, size_t nr_a, size_t b, size_t nr_b)
{
        return a < b + nr_b && b < a + nr_a;
}

static void step_move(struct world *w)
{
        static __thread struct page from[NR_PAGES];
        struct run run = movable(w, any_run(w, NR_PAGES / 4));
        size_t nr = draw(w, 2) ? run.nr : 1 + draw(w, 2 * run.nr + 1), to = draw(w, NR_PAGES);
        int stays = run.nr == nr && !draw(w, 3) ? MREMAP_DONTUNMAP : 0;

        /* It would unlock all of the mapping, wherever that ends. */
        for (size_t i = 0; i < run.nr; i++)
                if (w->pages[run.first + i].flags & LOCKED)
                        stays = 0;

        if (!run.nr || to + nr > NR_PAGES || overlap(run.first, run.nr, to, nr))
                return;
        long result = asked(w, run, run.nr, nr, MREMAP_MAYMOVE | MREMAP_FIXED | stays, to);
        if (result) {
                HOLDS(w, run.first, result == -EFAULT);
                /* Of several mappings it may have moved some. */
                unmap(w, run);
                unmap(w, (struct run){to, nr});
                return;
        }
        memcpy(from, &w->pages[run.first], run.nr * sizeof(struct page));
        moved(w, from, run.nr, to, nr);
        for (size_t i = 0; i < run.nr && stays; i++) {
                struct page *p = &w->pages[run.first + i];
                p->flags &= (uint8_t)~(MAYBE_FREED | OWN | LOCKED);
                p->value = 0;
        }
        if (!stays)
                forget(w, run);
        w->births++;
        for (size_t i = to; i < to + nr; i++)
                w->pages[i].birth = w->births;
}

/* A second mapping of shared memory: mremap(2) with an old size of nothing. */
static void step_double(struct world *w)
{
        struct run run = movable(w, any_run(w, 32));
        size_t to = draw(w, NR_PAGES);
        static __thread struct page from[32];

        if (!run.nr || to + run.nr > NR_PAGES || overlap(run.first, run.nr, to, run.nr))
                return;
        if (w->pages[run.first].object == NOTHING || w->pages[run.first].flags & (PRIVATE | LOCKED))
                return;
        if (asked(w, run, 0, run.nr, MREMAP_MAYMOVE | MREMAP_FIXED, to)) {
                unmap(w, (struct run){to, run.nr});
                return;
        }
        for (size_t i = 0; i < run.nr; i++) {
                from[i] = w->pages[run.first];
                from[i].cell = (uint16_t)(from[i].cell + i);
        }
        w->births++;
        for (size_t i = 0; i < run.nr; i++) {
                w->pages[to + i] = from[i];
                w->pages[to + i].birth = w->births;
        }
}

#endif
