/* Steps of a world (world.h): what is mapped, with which protection, and what it holds. */
#ifndef MAPPING_H
#define MAPPING_H

#include "world.h"

/* Any pages; `longest` of them now and then. */
static struct run any_run(struct world *w, size_t longest)
{
        struct run run = {.first = draw(w, NR_PAGES)};
        size_t most = draw(w, 8) ? (longest < 24 ? longest : 24) : longest;

        run.nr = 1 + draw(w, most);
        if (run.nr > NR_PAGES - run.first)
                run.nr = NR_PAGES - run.first;
        return run;
}

/* Cuts it before the first page that is not mapped; 0 pages if the first is not. */
static struct run whole(const struct world *w, struct run run)
{
        for (size_t i = 0; i < run.nr; i++)
                if (!w->pages[run.first + i].mapped)
                        run.nr = i;
        return run;
}

/* Two pages of one call that was never told anything of one of them alone. */
static int are_one(const struct page *a, const struct page *b)
{
        int kept = LOCKED | NOT_FORKED | WIPED;

        return a->birth == b->birth && a->prot == b->prot && a->told == b->told &&
               (a->flags & kept) == (b->flags & kept);
}

/* What may be asked of mremap(2): of one mapping, or of what may be several. */
static struct run movable(const struct world *w, struct run run)
{
        run = whole(w, run);
        for (size_t i = 0; i < run.nr && !w->merging; i++)
                if (!are_one(&w->pages[run.first], &w->pages[run.first + i]))
                        run.nr = i;
        return run;
}

static int is_free(const struct world *w, struct run run)
{
        for (size_t i = 0; i < run.nr; i++)
                if (w->pages[run.first + i].mapped)
                        return 0;
        return 1;
}

static void forget(struct world *w, struct run run)
{
        memset(&w->pages[run.first], 0, run.nr * sizeof(struct page));
}

static int new_prot(struct world *w)
{
        static const int prots[] = {RW, RW, RW, RW, PROT_READ, PROT_NONE, RW | PROT_EXEC};

        return prots[draw(w, sizeof(prots) / sizeof(prots[0]))];
}

static uint64_t new_value(struct world *w)
{
        return w->number << 56 | w->nr_steps << 16 | draw(w, 0xffff) | 1;
}

static void mapped(struct world *w, struct run run, int prot, int flags, int object, size_t cell)
{
        forget(w, run);
        w->births++;
        for (size_t i = 0; i < run.nr; i++)
                w->pages[run.first + i] = (struct page){
                    .object = (uint8_t)object,
                    .mapped = 1,
                    .prot = (uint8_t)prot,
                    .told = prot & PROT_WRITE ? RESERVED : 0,
                    .flags = (uint8_t)flags,
                    .cell = (uint16_t)(cell + i),
                    .birth = w->births,
                };
}

static void step_map(struct world *w)
{
        static const int extras[] = {0, 0, 0, MAP_POPULATE, MAP_NORESERVE};
        struct run run = any_run(w, NR_PAGES / 3);
        int prot = new_prot(w), extra = extras[draw(w, 5)];
        static const int wheres[] = {MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_FIXED_NOREPLACE, 0};
        int where = wheres[draw(w, 4)];
        int free_before = is_free(w, run);

        if (!where && !free_before)
                return;
        char *got = mmap(at(w, run.first), run.nr * PAGE, prot,
                         MAP_PRIVATE | MAP_ANONYMOUS | where | extra, -1, 0);
        if (where == MAP_FIXED_NOREPLACE && !free_before) {
                HOLDS(w, run.first, got == MAP_FAILED && errno == EEXIST);
                return;
        }
        HOLDS(w, run.first, got == at(w, run.first));
        mapped(w, run, prot, 0, NOTHING, 0);
}

static int free_object(const struct world *w)
{
        uint8_t used[NR_OBJECTS] = {[MEMFD] = 1};

        for (size_t i = 0; i < NR_PAGES; i++)
                if (w->pages[i].mapped && w->pages[i].object != NOTHING)
                        used[w->pages[i].object] = 1;
        for (int i = 0; i < NR_OBJECTS; i++)
                if (!used[i])
                        return i;
        return -1;
}

static void step_map_shared(struct world *w)
{
        struct run run = any_run(w, 200);
        int prot = new_prot(w), number = free_object(w);

        if (number < 0)
                return;
        char *got = mmap(at(w, run.first), run.nr * PAGE, prot,
                         MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        HOLDS(w, run.first, got == at(w, run.first));
        memset(&w->objects[number], 0, sizeof(struct object));
        w->objects[number].nr_pages = run.nr;
        mapped(w, run, prot, 0, number, 0);
}

static void step_map_memfd(struct world *w)
{
        struct run run = any_run(w, 200);
        size_t cell = draw(w, NR_CELLS / 4);
        int prot = new_prot(w), private = draw(w, 2) ? PRIVATE : 0;
        char *got =
            mmap(at(w, run.first), run.nr * PAGE, prot,
                 (private ? MAP_PRIVATE : MAP_SHARED) | MAP_FIXED, w->memfd, (off_t)(cell * PAGE));

        HOLDS(w, run.first, got == at(w, run.first));
        mapped(w, run, prot, private, MEMFD, cell);
}

static void unmap(struct world *w, struct run run)
{
        HOLDS(w, run.first, munmap(at(w, run.first), run.nr * PAGE) == 0);
        forget(w, run);
}

static void step_unmap(struct world *w)
{
        unmap(w, any_run(w, NR_PAGES / 4));
}

/* Writable memory counts as reserved from then on. */
static void tell_prot(struct page *p, int prot)
{
        p->prot = (uint8_t)prot;
        if (prot & PROT_WRITE)
                p->told |= RESERVED;
}

static void step_protect(struct world *w)
{
        struct run run = any_run(w, NR_PAGES / 4), can = whole(w, run);
        int prot = new_prot(w);
        long result = mprotect(at(w, run.first), run.nr * PAGE, prot);

        if (can.nr == run.nr)
                HOLDS(w, run.first, result == 0);
        else
                HOLDS(w, run.first + can.nr, result < 0 && errno == ENOMEM);
        for (size_t i = 0; i < can.nr; i++)
                tell_prot(&w->pages[run.first + i], prot);
}

/* All of one birth gets the protection that it began with: one mapping, as it was. */
static void step_protect_back(struct world *w)
{
        size_t first = draw(w, NR_PAGES), last = first;
        uint32_t birth = w->pages[first].birth;

        if (!w->pages[first].mapped)
                return;
        while (first && w->pages[first - 1].mapped && w->pages[first - 1].birth == birth)
                first--;
        while (last < NR_PAGES && w->pages[last].mapped && w->pages[last].birth == birth)
                last++;
        HOLDS(w, first, mprotect(at(w, first), (last - first) * PAGE, RW) == 0);
        for (size_t i = first; i < last; i++)
                tell_prot(&w->pages[i], RW);
}

static void step_write(struct world *w)
{
        struct run run = any_run(w, NR_PAGES / 2);

        for (size_t i = run.first; i < run.first + run.nr; i++) {
                struct page *p = &w->pages[i];
                uint64_t *words = (uint64_t *)at(w, i);

                if (!can(w, p, PROT_WRITE))
                        continue;
                if (p->prot & PROT_READ)
                        check_page(w, i);
                uint64_t value = new_value(w);
                for (size_t word = 0; word < PAGE / 8; word++)
                        words[word] = value;
                set_value(w, p, value);
        }
}

static void step_check(struct world *w)
{
        struct run run = any_run(w, NR_PAGES);

        for (size_t i = run.first; i < run.first + run.nr; i++)
                check_page(w, i);
}

#endif
