/* SPDX-License-Identifier: GPL-2.0-only */
#include "grow.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_SHIFT 12
#define NR_MAX     (1ULL << (63 - PAGE_SHIFT))

enum { IN_PARENT = 1, LAZY = 2, PRESENT = 4 };

/* Of pagemap_entry (proto/pagemap.proto), by number of the field; 6 is no varint. */
enum { VADDR = 1, COMPAT_NR = 2, FLAG_PARENT = 3, FLAGS = 4, NR = 5, NR_FIELDS = 6 };

struct pieces {
        struct ckpt_piece *at;
        uint64_t nr;
        uint64_t room;
};

/* A place in an image; `start` to `end` is the run that was read last, at `offset` of its pages. */
struct cursor {
        const uint8_t *at;
        const uint8_t *stop;
        uint64_t start;
        uint64_t end;
        uint64_t flags;
        uint64_t offset;
};

static const uint8_t *varint(const uint8_t *at, const uint8_t *stop, uint64_t *value)
{
        *value = 0;
        for (unsigned int shift = 0; at < stop && shift < 63; shift += 7) {
                *value |= (uint64_t)(*at & 0x7f) << shift;
                if (!(*at++ & 0x80))
                        return at;
        }
        return NULL;
}

/* The fields of a record, and which of them are there, as bits. */
static long fields(const uint8_t *at, const uint8_t *stop, uint64_t value[NR_FIELDS])
{
        unsigned int found = 0;

        while (at < stop) {
                unsigned int field = *at >> 3;

                /* A tag of one byte, and a varint. */
                if ((*at & 0x87) || field < VADDR || field >= NR_FIELDS || found & 1U << field)
                        return -EILSEQ;
                at = varint(at + 1, stop, &value[field]);
                if (!at || (field != VADDR && field != NR && value[field] > UINT32_MAX))
                        return -EILSEQ;
                found |= 1U << field;
        }
        return found;
}

/* The next run: 1, 0 at the end. */
static long next(struct cursor *c)
{
        uint64_t value[NR_FIELDS] = {0}, nr, last = c->end;
        uint32_t size;
        long found;

        if (c->flags & PRESENT)
                c->offset += c->end - c->start;
        if (c->at == c->stop) {
                c->flags = 0;
                return 0;
        }
        if (c->stop - c->at < (ptrdiff_t)sizeof(size))
                return -EILSEQ;
        memcpy(&size, c->at, sizeof(size));
        c->at += sizeof(size);
        if (size > (uint64_t)(c->stop - c->at))
                return -EILSEQ;
        found = fields(c->at, c->at + size, value);
        if (found < 0 || !(found & 1 << VADDR) || !(found & 1 << COMPAT_NR) ||
            !(found & 1 << FLAGS) || value[FLAG_PARENT])
                return -EILSEQ;
        c->at += size;
        nr = found & 1 << NR ? value[NR] : value[COMPAT_NR];
        if (value[VADDR] & ((1 << PAGE_SHIFT) - 1) || value[VADDR] < last || !nr ||
            value[VADDR] >> PAGE_SHIFT >= NR_MAX || nr > NR_MAX - (value[VADDR] >> PAGE_SHIFT))
                return -EILSEQ;
        c->flags = value[FLAGS];
        if (!c->flags || c->flags & ~7ULL || (c->flags & IN_PARENT && c->flags & PRESENT))
                return -EILSEQ;
        c->start = value[VADDR];
        c->end = c->start + (nr << PAGE_SHIFT);
        return 1;
}

static long piece(struct pieces *to, struct ckpt_piece new)
{
        if (to->nr == to->room) {
                uint64_t room = to->room ? 2 * to->room : 256;
                struct ckpt_piece *at = realloc(to->at, room * sizeof(*at));

                if (!at)
                        return -ENOMEM;
                to->at = at;
                to->room = room;
        }
        to->at[to->nr++] = new;
        return 0;
}

/* What the run that `c` stands at says of `start` to `end`, which is inside of it. */
static long take(const struct cursor *c, struct ckpt_piece part, struct pieces *pieces,
                 struct extents *below)
{
        if (c->flags & IN_PARENT)
                return extents_append(below, part.start, part.end, 0);
        if (!(c->flags & PRESENT))
                return -EILSEQ;
        part.flags = c->flags;
        part.offset = c->offset + part.start - c->start;
        return piece(pieces, part);
}

/* Split `wanted` into what image number `layer` has and what it leaves to the next. */
static long cut(struct ckpt_pagemap *image, uint64_t layer, const struct extents *wanted,
                struct pieces *pieces, struct extents *below)
{
        struct cursor c = {.at = image->data, .stop = image->data + image->len};
        long more = 1, err = 0;

        for (uint64_t i = 0; !err && i < wanted->nr; i++) {
                struct ckpt_extent left = wanted->at[i];

                while (!err && left.start < left.end) {
                        uint64_t stop;

                        while (more > 0 && c.end <= left.start)
                                more = next(&c);
                        if (more <= 0 || c.start > left.start)
                                return more < 0 ? more : -EILSEQ;
                        stop = c.end < left.end ? c.end : left.end;
                        err = take(&c,
                                   (struct ckpt_piece){.start = left.start,
                                                       .end = stop,
                                                       .layer = layer,
                                                       .pages = image->pages},
                                   pieces, below);
                        left.start = stop;
                }
        }
        /* The rest must be as it should be, too, and counts. */
        while (!err && more > 0)
                more = next(&c);
        image->nr_present = c.offset >> PAGE_SHIFT;
        return err ? err : more;
}

static long everything(const struct ckpt_pagemap *image, struct extents *to)
{
        struct cursor c = {.at = image->data, .stop = image->data + image->len};
        long more;

        while ((more = next(&c)) > 0) {
                long err = extents_append(to, c.start, c.end, 0);

                if (err)
                        return err;
        }
        return more;
}

static int by_start(const void *a, const void *b)
{
        const struct ckpt_piece *x = a, *y = b;

        return x->start < y->start ? -1 : x->start > y->start;
}

long ckpt_resolve_chain(struct ckpt_pagemap *images, uint64_t nr, struct ckpt_piece **out)
{
        struct extents wanted = {0}, below = {0};
        struct pieces pieces = {0};
        long err = nr ? everything(&images[0], &wanted) : -EILSEQ;

        for (uint64_t layer = 0; layer < nr; layer++) {
                struct extents done = wanted;

                images[layer].nr_present = UINT64_MAX;
                if (err || (layer && !wanted.nr))
                        continue;
                below.nr = 0;
                err = cut(&images[layer], layer, &wanted, &pieces, &below);
                wanted = below;
                below = done;
        }
        if (!err && wanted.nr)
                err = -EILSEQ;
        free(wanted.at);
        free(below.at);
        if (err) {
                free(pieces.at);
                return err;
        }
        if (pieces.nr)
                qsort(pieces.at, pieces.nr, sizeof(*pieces.at), by_start);
        *out = pieces.at;
        return (long)pieces.nr;
}
