/*
 * One piece of address space of a victim that calls memory functions at random, and what it has to
 * look like: for each page what is mapped there, with which protection, and what it holds.
 *
 * All that a world goes through follows from its seed, whichever thread does the next step: two
 * programs with the same seed, one of which is left alone, have the same `hash` after as many
 * steps. Whatever a call does that the model can't know, such as whether the kernel has made one
 * mapping of two, is in the hash.
 */
#ifndef WORLD_H
#define WORLD_H

#include "../victim.h"

#include <sys/uio.h>

#define NR_PAGES   1024
#define NR_OBJECTS 8
#define NR_CELLS   2048 /* pages of the largest object */
#define MEMFD      0    /* the number of the object that has a descriptor */
#define NOTHING    0xff
#define RW         (PROT_READ | PROT_WRITE)

/* What a page was told by madvise(2) and the like. */
enum { LOCKED = 1, NOT_FORKED = 2, WIPED = 4, PRIVATE = 8, MAYBE_FREED = 16, OWN = 32 };

/* What else makes two mappings of one. */
enum { HUGE = 1, NOT_HUGE = 2, SEQUENTIAL = 4, ON_FAULT = 8, RESERVED = 16 };

struct page {
        uint8_t object; /* NOTHING: private memory without a file */
        uint8_t mapped, prot, flags, told;
        uint16_t cell;
        uint32_t birth; /* the mapping is of one call: what the kernel never has in two parts */
        uint64_t value;
};

struct object {
        size_t nr_pages; /* 0: is not there */
        uint64_t value[NR_CELLS];
};

struct world {
        char *base;
        uint64_t number, state, hash, nr_steps, nr_split;
        uint32_t births;
        int memfd, merging;
        char *breaks[2]; /* of the heap, when this world has it */
        char *roamer;    /* memory that is wherever the kernel wants it */
        size_t roamer_pages;
        uint64_t roamer_seed;
        struct object objects[NR_OBJECTS];
        struct page pages[NR_PAGES];
};

struct run {
        size_t first, nr;
};

UNUSED static uint64_t draw(struct world *w, uint64_t limit)
{
        w->state ^= w->state << 13;
        w->state ^= w->state >> 7;
        w->state ^= w->state << 17;
        return (w->state >> 11) % limit;
}

UNUSED static void note(struct world *w, uint64_t what)
{
        w->hash = (w->hash ^ what) * 0x100000001b3ULL + (w->hash >> 29);
}

UNUSED static char *at(const struct world *w, size_t page)
{
        return w->base + page * PAGE;
}

UNUSED __attribute__((noreturn)) static void differs(const struct world *w, size_t number, int line,
                                                     const char *what)
{
        const struct page *p = &w->pages[number];
        int error = errno;

        say("world %lu step %lu page %zu at %p: object %d cell %d prot %d flags %#x mapped %d "
            "birth %u value %lx\n",
            w->number, w->nr_steps, number, (void *)at(w, number), p->object, p->cell, p->prot,
            p->flags, p->mapped, p->birth, p->value);
        errno = error;
        fail("the world", line, what);
}

/* Like CHECK, and says where. */
#define HOLDS(world, number, condition)                                                            \
        ((condition) ? (void)0 : differs(world, number, __LINE__, #condition))

UNUSED static int is_beyond(const struct world *w, const struct page *p)
{
        return p->object != NOTHING && !(p->flags & OWN) &&
               p->cell >= w->objects[p->object].nr_pages;
}

/* May it be read (written)? A read of PROT_NONE or beyond the end of an object ends in a signal. */
UNUSED static int can(const struct world *w, const struct page *p, int prot)
{
        return p->mapped && (p->prot & prot) && !is_beyond(w, p);
}

UNUSED static uint64_t value_of(const struct world *w, const struct page *p)
{
        if (p->object == NOTHING || p->flags & OWN)
                return p->value;
        return w->objects[p->object].value[p->cell];
}

/* What a write to the page leaves in the model. */
UNUSED static void set_value(struct world *w, struct page *p, uint64_t value)
{
        if (p->object != NOTHING && !(p->flags & PRIVATE)) {
                w->objects[p->object].value[p->cell] = value;
                return;
        }
        p->flags = (uint8_t)((p->flags & ~MAYBE_FREED) | (p->object == NOTHING ? 0 : OWN));
        p->value = value;
}

UNUSED static void check_page(struct world *w, size_t page)
{
        struct page *p = &w->pages[page];
        const uint64_t *words = (const uint64_t *)at(w, page);

        if (!can(w, p, PROT_READ))
                return;
        uint64_t found = __atomic_load_n(words, __ATOMIC_RELAXED);
        if (p->flags & MAYBE_FREED && !found)
                set_value(w, p, 0);
        HOLDS(w, page, found == value_of(w, p));
        for (size_t i = 1; i < PAGE / 8; i++)
                HOLDS(w, page, words[i] == found);
}

UNUSED static void check_all(struct world *w)
{
        for (size_t i = 0; i < NR_PAGES; i++)
                check_page(w, i);
}
#endif
