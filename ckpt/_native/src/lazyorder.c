/* SPDX-License-Identifier: GPL-2.0-only */
#include "lazyorder.h"

#include "uffd.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { NR_TRIES = 2000, PAUSE_US = 50 };

long lazy_change_add(struct lazy_space *s, struct lazy_change change)
{
        struct lazy_changes *all = s->changes;

        if (!all)
                all = s->changes = calloc(1, sizeof(*all));
        if (!all)
                return -ENOMEM;
        if (all->nr == all->room) {
                uint64_t room = all->room ? 2 * all->room : 8;
                struct lazy_change *at = realloc(all->at, room * sizeof(*at));

                if (!at)
                        return -ENOMEM;
                all->at = at;
                all->room = room;
        }
        all->at[all->nr++] = change;
        return 0;
}

long lazy_change_note(struct lazy_space *s, uint64_t from, uint64_t to, uint64_t len)
{
        struct lazy_change change = {.from = from, .to = to, .len = len};
        long err = lazy_space_missing_in(s, from, from + len, 0, &change.pieces);
        int kept = !err && (change.pieces.nr || to != LAZY_NOWHERE);

        if (kept)
                err = lazy_change_add(s, change);
        if (err || !kept)
                free(change.pieces.at);
        return err;
}

void lazy_changes_forget(struct lazy_space *s)
{
        for (uint64_t i = 0; s->changes && i < s->changes->nr; i++)
                free(s->changes->at[i].pieces.at);
        if (s->changes)
                free(s->changes->at);
        free(s->changes);
        s->changes = NULL;
}

long lazy_change_undo(struct lazy_space *child, const struct lazy_space *parent, uint64_t nr)
{
        const struct lazy_change *change;

        if (!parent->changes || nr >= parent->changes->nr)
                return -EILSEQ;
        change = &parent->changes->at[nr];
        if (change->to != LAZY_NOWHERE)
                lazy_space_drop(child, change->to, change->to + change->len);
        return lazy_space_add(child, &change->pieces);
}

/* ---- what the child has */

enum has { NOTHING, SOMETHING, UNKNOWN };

/* Whether a mapping of the userfaultfd is at `addr`: pages that can't be read are copied there. */
static enum has has(int uffd, uint64_t addr)
{
        static void *unreadable;
        struct uffdio_copy copy = {.dst = addr, .len = LAZY_PAGE};

        if (!unreadable)
                unreadable = mmap(NULL, LAZY_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (unreadable == MAP_FAILED) {
                unreadable = NULL;
                return UNKNOWN;
        }
        copy.src = (uintptr_t)unreadable;
        if (ioctl(uffd, UFFDIO_COPY, &copy) == 0)
                return UNKNOWN;
        if (errno == EFAULT || errno == EEXIST)
                return SOMETHING;
        return errno == ENOENT || errno == EINVAL ? NOTHING : UNKNOWN;
}

/* The same of an address space that has just forked: it takes no requests until who forks has been
 * scheduled. */
static enum has has_by_now(int uffd, uint64_t addr)
{
        enum has found = has(uffd, addr);

        for (int n = 0; found == UNKNOWN && n < NR_TRIES; n++) {
                usleep(PAUSE_US);
                found = has(uffd, addr);
        }
        return found;
}

static enum has has_old(const struct lazy_space *child, const struct lazy_change *change)
{
        return has(child->uffd, change->pieces.at[0].start);
}

static enum has has_new(const struct lazy_space *child, const struct lazy_change *change)
{
        if (change->to == LAZY_NOWHERE)
                return NOTHING;
        return has(child->uffd, change->pieces.at[0].start - change->from + change->to);
}

static int overlap(uint64_t a, uint64_t b, uint64_t from, uint64_t len)
{
        return from != LAZY_NOWHERE && a < from + len && from < b;
}

static int touches(const struct lazy_change *later, uint64_t start, uint64_t len)
{
        return start != LAZY_NOWHERE && (overlap(start, start + len, later->from, later->len) ||
                                         overlap(start, start + len, later->to, later->len));
}

static int is_hidden(const struct lazy_changes *all, uint64_t nr, const uint8_t *before)
{
        for (uint64_t i = nr + 1; i < all->nr; i++)
                if (!before[i] && (touches(&all->at[i], all->at[nr].from, all->at[nr].len) ||
                                   touches(&all->at[i], all->at[nr].to, all->at[nr].len)))
                        return 1;
        return 0;
}

/* Whether anything of [start, start + len) is missing, as far as is known. */
static int misses(const struct lazy_space *space, uint64_t start, uint64_t len)
{
        struct lazy_piece piece;

        return lazy_space_next(space, start, start + len, 1, 1, &piece);
}

int lazy_born_before(const struct lazy_space *child, const struct lazy_space *parent, uint64_t nr,
                     const uint8_t *before)
{
        const struct lazy_changes *all = parent->changes;
        const struct lazy_change *change = &all->at[nr];

        if (!change->pieces.nr || is_hidden(all, nr, before) ||
            misses(child, change->from, change->len))
                return 0;
        if (change->to != LAZY_NOWHERE && !misses(child, change->to, change->len))
                return 0;
        if (has_old(child, change) != SOMETHING || has_new(child, change) != NOTHING)
                return 0;
        return change->to != LAZY_NOWHERE ||
               has_by_now(parent->uffd, change->pieces.at[0].start) != SOMETHING;
}

int lazy_born_after(const struct lazy_space *child, const struct lazy_change *change)
{
        if (!change->pieces.nr || !misses(child, change->from, change->len))
                return 0;
        return has_old(child, change) == NOTHING && has_new(child, change) == SOMETHING;
}
