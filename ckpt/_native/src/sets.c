/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <stdlib.h>

#define PAGE 4096ULL

/* The borders of a set in their order: starts at even indexes, ends at odd ones. */
struct borders {
        const struct ckpt_extent *set;
        uint64_t at;
        uint64_t nr;
};

static uint64_t border(const struct borders *of)
{
        const struct ckpt_extent *range = &of->set[of->at / 2];

        return of->at & 1 ? range->end : range->start;
}

/* Whether addresses from the next border on are in the set, once it is passed. */
static int pass(struct borders *of, uint64_t addr)
{
        while (of->at < of->nr && border(of) == addr)
                of->at++;
        return of->at & 1;
}

/* Each result range takes two borders, so there are never more than the operands have. */
long ckpt_combine_sets(int op, const struct ckpt_extent *a, uint64_t nr_a,
                       const struct ckpt_extent *b, uint64_t nr_b, struct ckpt_extent **out)
{
        /* Bit in_a + 2 * in_b: is such an address in the result? */
        static const unsigned char table[] = {
            [CKPT_SET_OR] = 0xe, [CKPT_SET_AND] = 0x8, [CKPT_SET_SUB] = 0x2};
        struct borders of_a = {a, 0, 2 * nr_a}, of_b = {b, 0, 2 * nr_b};
        struct ckpt_extent *to;
        uint64_t nr = 0;
        int inside = 0;

        if (op < 0 || op >= (int)sizeof(table))
                return -EINVAL;
        to = malloc((nr_a + nr_b ? nr_a + nr_b : 1) * sizeof(*to));
        if (!to)
                return -ENOMEM;
        while (of_a.at < of_a.nr || of_b.at < of_b.nr) {
                uint64_t addr;
                int state;

                if (of_b.at == of_b.nr || (of_a.at < of_a.nr && border(&of_a) < border(&of_b)))
                        addr = border(&of_a);
                else
                        addr = border(&of_b);
                state = pass(&of_a, addr) + 2 * pass(&of_b, addr);
                if ((table[op] >> state & 1) == inside)
                        continue;
                if (inside)
                        to[nr++].end = addr;
                else
                        to[nr].start = addr;
                inside = !inside;
        }
        *out = to;
        return (long)nr;
}

long ckpt_check_set(const struct ckpt_extent *set, uint64_t nr)
{
        uint64_t last = 0;

        for (uint64_t i = 0; i < nr; i++) {
                if ((set[i].start | set[i].end) & (PAGE - 1 + (1ULL << 63)))
                        return -EINVAL;
                if (set[i].start < last || set[i].end <= set[i].start)
                        return -EINVAL;
                last = set[i].end;
        }
        return 0;
}
