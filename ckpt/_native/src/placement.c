/* SPDX-License-Identifier: GPL-2.0-only */
#include "placement.h"

#include <stdlib.h>
#include <string.h>

#define PAGE 4096ULL

long placement_make(struct placement *to, const struct ckpt_extent *all, uint64_t nr)
{
        uint64_t pages = 0;

        *to = (struct placement){.nr = nr};
        to->at = malloc((nr + 1) * sizeof(*to->at));
        to->first = malloc((nr + 1) * sizeof(*to->first));
        if (!to->at || !to->first) {
                placement_free(to);
                return -ENOMEM;
        }
        for (uint64_t i = 0; i < nr; i++) {
                to->at[i] = all[i];
                to->first[i] = pages;
                pages += (all[i].end - all[i].start) / PAGE;
        }
        to->nr_pages = pages;
        return 0;
}

void placement_free(struct placement *of)
{
        free(of->at);
        free(of->first);
        *of = (struct placement){0};
}

/* Index of the last extent that begins at or below `addr`; `nr` if there is none. */
static uint64_t last_below(const struct placement *of, uint64_t addr)
{
        uint64_t low = 0, high = of->nr;

        while (low < high) {
                uint64_t middle = low + (high - low) / 2;

                if (of->at[middle].start <= addr)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low ? low - 1 : of->nr;
}

static uint64_t number_in(const struct placement *of, uint64_t i, uint64_t addr, uint64_t *left)
{
        if (i >= of->nr || addr < of->at[i].start || addr >= of->at[i].end)
                return NOWHERE;
        *left = (of->at[i].end - addr) / PAGE;
        return of->first[i] + (addr - of->at[i].start) / PAGE;
}

uint64_t placement_find(const struct placement *of, uint64_t addr, uint64_t *left)
{
        return number_in(of, last_below(of, addr), addr, left);
}

static int is_above(const struct placement *of, uint64_t i, uint64_t addr)
{
        return i >= of->nr || of->at[i].start > addr;
}

uint64_t placement_next(const struct placement *of, uint64_t *at, uint64_t addr, uint64_t *left)
{
        if (!is_above(of, *at + 1, addr))
                *at = is_above(of, *at + 2, addr) ? *at + 1 : last_below(of, addr);
        return number_in(of, *at, addr, left);
}

uint64_t placement_above(const struct placement *of, uint64_t addr)
{
        uint64_t i = last_below(of, addr);

        if (i == of->nr)
                return 0;
        if (addr < of->at[i].end)
                return of->first[i] + (addr - of->at[i].start + PAGE - 1) / PAGE;
        return i + 1 < of->nr ? of->first[i + 1] : of->nr_pages;
}

uint64_t placement_addr(const struct placement *of, uint64_t number, uint64_t *left)
{
        uint64_t low = 0, high = of->nr, addr;

        while (low < high) {
                uint64_t middle = low + (high - low) / 2;

                if (of->first[middle] <= number)
                        low = middle + 1;
                else
                        high = middle;
        }
        addr = of->at[low - 1].start + (number - of->first[low - 1]) * PAGE;
        *left = (of->at[low - 1].end - addr) / PAGE;
        return addr;
}
