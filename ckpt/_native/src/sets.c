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

struct result {
        struct ckpt_extent *set;
        uint64_t nr;
};

static void begin_range(struct result *to, uint64_t addr)
{
        if (to->nr && to->set[to->nr - 1].end == addr)
                to->nr--;
        else
                to->set[to->nr].start = addr;
}

static void end_range(struct result *to, uint64_t addr)
{
        to->set[to->nr++].end = addr;
}

/* Whole ranges that end below `limit`, the other operand's next border: most of a large set beside
 * a small one. `in`, `out`: whether what is in them, and between them, is in the result. Returns
 * whether there were any. */
static int pass_many(struct borders *of, uint64_t limit, int in, int out, struct result *to)
{
        uint64_t first = of->at / 2, i = first, nr = of->nr / 2;

        if (of->at & 1 || (out && !in))
                return 0;
        for (; i < nr && of->set[i].end < limit; i++) {
                if (in == out)
                        continue;
                begin_range(to, of->set[i].start);
                end_range(to, of->set[i].end);
        }
        of->at = 2 * i;
        return i > first;
}

/* Each result range takes two borders, so there are never more than the operands have. */
long ckpt_combine_sets(int op, const struct ckpt_extent *a, uint64_t nr_a,
                       const struct ckpt_extent *b, uint64_t nr_b, struct ckpt_extent **out)
{
        /* Bit in_a + 2 * in_b: is such an address in the result? */
        static const unsigned char table[] = {
            [CKPT_SET_OR] = 0xe, [CKPT_SET_AND] = 0x8, [CKPT_SET_SUB] = 0x2};
        struct borders of_a = {a, 0, 2 * nr_a}, of_b = {b, 0, 2 * nr_b};
        struct result to = {0};
        int inside = 0;

        if (op < 0 || op >= (int)sizeof(table))
                return -EINVAL;
        to.set = malloc((nr_a + nr_b ? nr_a + nr_b : 1) * sizeof(*to.set));
        if (!to.set)
                return -ENOMEM;
        while (of_a.at < of_a.nr || of_b.at < of_b.nr) {
                uint64_t next_a = of_a.at < of_a.nr ? border(&of_a) : UINT64_MAX;
                uint64_t next_b = of_b.at < of_b.nr ? border(&of_b) : UINT64_MAX;
                uint64_t addr = next_a < next_b ? next_a : next_b;
                int in_a = of_a.at & 1, in_b = of_b.at & 1;

                if (pass_many(&of_a, next_b, table[op] >> (1 + 2 * in_b) & 1,
                              table[op] >> 2 * in_b & 1, &to) ||
                    pass_many(&of_b, next_a, table[op] >> (2 + in_a) & 1, table[op] >> in_a & 1,
                              &to))
                        continue;
                if ((table[op] >> (pass(&of_a, addr) + 2 * pass(&of_b, addr)) & 1) == inside)
                        continue;
                if (inside)
                        end_range(&to, addr);
                else
                        begin_range(&to, addr);
                inside = !inside;
        }
        *out = to.set;
        return (long)to.nr;
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
