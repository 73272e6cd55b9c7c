/* Steps of a world: madvise(2), mlock(2), msync(2), mincore(2). */
#ifndef ADVICE_H
#define ADVICE_H

#include "mapping.h"

#define LOCKABLE 64 /* pages of a world */

static int is_private(const struct page *p)
{
        return p->object == NOTHING;
}

static uint8_t told(uint8_t before, int advice)
{
        switch (advice) {
        case MADV_HUGEPAGE:
                return (uint8_t)((before & ~NOT_HUGE) | HUGE);
        case MADV_NOHUGEPAGE:
                return (uint8_t)((before & ~HUGE) | NOT_HUGE);
        case MADV_SEQUENTIAL:
                return before | SEQUENTIAL;
        case MADV_NORMAL:
                return (uint8_t)(before & ~SEQUENTIAL);
        default:
                return before;
        }
}

/* What advice does to a page: 0, or the error that it gets, with which the call ends. */
static int advised(struct world *w, struct page *p, int advice)
{
        struct object *object = p->object == NOTHING ? NULL : &w->objects[p->object];

        p->told = told(p->told, advice);
        switch (advice) {
        case MADV_DONTNEED:
                if (p->flags & LOCKED)
                        return EINVAL;
                if (is_private(p) || p->flags & PRIVATE) {
                        p->flags &= (uint8_t)~(MAYBE_FREED | OWN);
                        p->value = 0;
                }
                return 0;
        case MADV_FREE:
                if (p->flags & LOCKED || !is_private(p))
                        return EINVAL;
                p->flags |= MAYBE_FREED;
                return 0;
        case MADV_COLD:
        case MADV_PAGEOUT:
                return p->flags & LOCKED ? EINVAL : 0;
        case MADV_DONTFORK:
                p->flags |= NOT_FORKED;
                return 0;
        case MADV_DOFORK:
                p->flags &= (uint8_t)~NOT_FORKED;
                return 0;
        case MADV_WIPEONFORK:
                if (!is_private(p))
                        return EINVAL;
                p->flags |= WIPED;
                return 0;
        case MADV_KEEPONFORK:
                if (!is_private(p))
                        return 0;
                p->flags &= (uint8_t)~WIPED;
                return 0;
        case MADV_REMOVE:
                if (p->flags & LOCKED || !object)
                        return EINVAL;
                if (p->flags & PRIVATE)
                        return EACCES;
                if (p->cell < object->nr_pages)
                        object->value[p->cell] = 0;
                return 0;
        case MADV_POPULATE_READ:
                if (!(p->prot & PROT_READ))
                        return EINVAL;
                return is_beyond(w, p) ? EFAULT : 0;
        case MADV_POPULATE_WRITE:
                if (!(p->prot & PROT_WRITE))
                        return EINVAL;
                if (is_beyond(w, p))
                        return EFAULT;
                if (p->flags & PRIVATE)
                        set_value(w, p, value_of(w, p));
                return 0;
        default:
                return 0;
        }
}

static void step_advise(struct world *w)
{
        static const int advices[] = {
            MADV_DONTNEED,      MADV_DONTNEED,       MADV_DONTNEED,       MADV_FREE,
            MADV_HUGEPAGE,      MADV_NOHUGEPAGE,     MADV_DONTFORK,       MADV_DOFORK,
            MADV_WIPEONFORK,    MADV_KEEPONFORK,     MADV_COLD,           MADV_PAGEOUT,
            MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_POPULATE_WRITE, MADV_REMOVE,
            MADV_WILLNEED,      MADV_SEQUENTIAL,     MADV_NORMAL,
        };
        int advice = advices[draw(w, sizeof(advices) / sizeof(advices[0]))];
        struct run run = any_run(w, NR_PAGES / 4);
        int populates = advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE;
        int error = 0;
        size_t i = run.first;

        long result = madvise(at(w, run.first), run.nr * PAGE, advice);
        if (result < 0)
                result = -errno;
        for (; i < run.first + run.nr; i++) {
                struct page *p = &w->pages[i];
                int one = p->mapped ? advised(w, p, advice) : ENOMEM;

                if (one)
                        error = one == ENOMEM && error ? error : one;
                if (one && (one != ENOMEM || populates))
                        break;
        }
        if (i == run.first + run.nr)
                i--;
        if (result != -error)
                say("advice %d: %ld, not %d\n", advice, result, -error);
        HOLDS(w, i, result == -error);
}

static size_t nr_locked(const struct world *w)
{
        size_t nr = 0;

        for (size_t i = 0; i < NR_PAGES; i++)
                nr += !!(w->pages[i].flags & LOCKED);
        return nr;
}

static void step_lock(struct world *w)
{
        struct run run = whole(w, any_run(w, 8));
        size_t i, plain = 1;

        if (!run.nr || nr_locked(w) + run.nr > LOCKABLE)
                return;
        for (i = run.first; i < run.first + run.nr; i++) {
                if (w->pages[i].flags & PRIVATE)
                        return;
                plain &= can(w, &w->pages[i], PROT_READ);
        }
        if (plain)
                HOLDS(w, run.first, mlock(at(w, run.first), run.nr * PAGE) == 0);
        else
                HOLDS(w, run.first, mlock2(at(w, run.first), run.nr * PAGE, MLOCK_ONFAULT) == 0);
        for (i = run.first; i < run.first + run.nr; i++) {
                w->pages[i].flags |= LOCKED;
                w->pages[i].told &= (uint8_t)~ON_FAULT;
                w->pages[i].told |= plain ? 0 : ON_FAULT;
        }
}

static void step_unlock(struct world *w)
{
        struct run run = whole(w, any_run(w, NR_PAGES));

        if (!run.nr)
                return;
        HOLDS(w, run.first, munlock(at(w, run.first), run.nr * PAGE) == 0);
        for (size_t i = run.first; i < run.first + run.nr; i++)
                w->pages[i].flags &= (uint8_t)~LOCKED, w->pages[i].told &= (uint8_t)~ON_FAULT;
}

static void step_sync(struct world *w)
{
        struct run run = any_run(w, NR_PAGES);
        int all = whole(w, run).nr == run.nr;
        static __thread unsigned char residence[NR_PAGES];

        long result = msync(at(w, run.first), run.nr * PAGE, draw(w, 2) ? MS_SYNC : MS_ASYNC);
        HOLDS(w, run.first, all ? result == 0 : result < 0 && errno == ENOMEM);
        result = mincore(at(w, run.first), run.nr * PAGE, residence);
        HOLDS(w, run.first, all ? result == 0 : result < 0 && errno == ENOMEM);
}

#endif
