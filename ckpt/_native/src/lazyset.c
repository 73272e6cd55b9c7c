/* SPDX-License-Identifier: GPL-2.0-only */
#include "lazyset.h"

#include "lazyorder.h"

#include <stdlib.h>
#include <string.h>

static int bit(const uint64_t *bits, uint64_t at)
{
        return bits[at / 64] >> at % 64 & 1;
}

static void set_bit(uint64_t *bits, uint64_t at, int on)
{
        if (on)
                bits[at / 64] |= 1ULL << at % 64;
        else
                bits[at / 64] &= ~(1ULL << at % 64);
}

/* The first page from `at` on, below `end`, that is missing and, unless `again`, not asked for. */
static uint64_t next_missing(const struct lazy_space *s, uint64_t at, uint64_t end, int again)
{
        while (at < end) {
                uint64_t word = s->missing[at / 64];

                if (!again)
                        word &= ~s->asked[at / 64];
                word &= ~0ULL << at % 64;
                if (word) {
                        at = at / 64 * 64 + (uint64_t)__builtin_ctzll(word);
                        return at < end ? at : end;
                }
                at = (at / 64 + 1) * 64;
        }
        return end;
}

static uint64_t run_pages(const struct ckpt_lazy_run *run)
{
        return (run->end - run->start) / LAZY_PAGE;
}

/* The first run that ends above `addr`. */
static uint64_t run_from(const struct lazy_space *s, uint64_t addr)
{
        uint64_t low = 0, high = s->nr_runs;

        while (low < high) {
                uint64_t middle = low + (high - low) / 2;

                if (s->runs[middle].end <= addr)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

long lazy_runs_add(struct lazy_runs *to, struct ckpt_lazy_run run)
{
        if (to->nr == to->room) {
                uint64_t room = to->room ? 2 * to->room : 64;
                struct ckpt_lazy_run *at = realloc(to->at, room * sizeof(*at));

                if (!at)
                        return -ENOMEM;
                to->at = at;
                to->room = room;
        }
        to->at[to->nr++] = run;
        return 0;
}

long lazy_space_make(struct lazy_space *s, const struct ckpt_lazy_run *runs, uint64_t nr)
{
        uint64_t words, last = 0;

        s->runs = malloc((nr + 1) * sizeof(*runs));
        s->first = malloc((nr + 1) * sizeof(*s->first));
        s->missing = s->asked = NULL;
        s->nr_runs = nr;
        s->nr_pages = s->sweep = s->near = s->near_end = 0;
        if (!s->runs || !s->first)
                return -ENOMEM;
        for (uint64_t i = 0; i < nr; i++) {
                if ((runs[i].start | runs[i].end) % LAZY_PAGE || runs[i].start < last ||
                    runs[i].end <= runs[i].start)
                        return -EINVAL;
                last = runs[i].end;
                s->runs[i] = runs[i];
                s->first[i] = s->nr_pages;
                s->nr_pages += run_pages(&runs[i]);
        }
        s->nr_left = s->nr_pages;
        words = s->nr_pages / 64 + 1;
        s->missing = malloc(words * sizeof(uint64_t));
        s->asked = calloc(words, sizeof(uint64_t));
        if (!s->missing || !s->asked)
                return -ENOMEM;
        memset(s->missing, 0xff, words * sizeof(uint64_t));
        for (uint64_t at = s->nr_pages; at < words * 64; at++)
                set_bit(s->missing, at, 0);
        return 0;
}

static void free_runs(struct lazy_space *s)
{
        free(s->runs);
        free(s->first);
        free(s->missing);
        free(s->asked);
        s->runs = NULL;
        s->first = s->missing = s->asked = NULL;
        s->nr_runs = s->nr_pages = s->nr_left = 0;
}

void lazy_space_free(struct lazy_space *s)
{
        free_runs(s);
        lazy_changes_forget(s);
}

long lazy_space_missing(const struct lazy_space *s, struct lazy_runs *to)
{
        for (uint64_t i = 0; i < s->nr_runs; i++) {
                const struct ckpt_lazy_run *run = &s->runs[i];
                uint64_t at = s->first[i], end = at + run_pages(run);

                while ((at = next_missing(s, at, end, 1)) < end) {
                        uint64_t stop = at, from = at - s->first[i];
                        long err;

                        while (stop < end && bit(s->missing, stop))
                                stop++;
                        err = lazy_runs_add(
                            to, (struct ckpt_lazy_run){.start = run->start + from * LAZY_PAGE,
                                                       .end = run->start +
                                                              (stop - s->first[i]) * LAZY_PAGE,
                                                       .source = run->source,
                                                       .at = run->at + from * LAZY_PAGE});
                        if (err)
                                return err;
                        at = stop;
                }
        }
        return 0;
}

long lazy_space_missing_in(const struct lazy_space *s, uint64_t start, uint64_t end, uint64_t shift,
                           struct lazy_runs *to)
{
        struct lazy_piece piece;

        while (lazy_space_next(s, start, end, ~0ULL, 1, &piece)) {
                uint64_t stop = piece.addr + piece.nr_pages * LAZY_PAGE;
                long err = lazy_runs_add(to, (struct ckpt_lazy_run){.start = piece.addr + shift,
                                                                    .end = stop + shift,
                                                                    .source = piece.source,
                                                                    .at = piece.at});

                if (err)
                        return err;
                start = stop;
        }
        return 0;
}

uint64_t lazy_space_drop(struct lazy_space *s, uint64_t start, uint64_t end)
{
        uint64_t dropped = 0;

        for (uint64_t i = run_from(s, start); i < s->nr_runs && s->runs[i].start < end; i++) {
                const struct ckpt_lazy_run *run = &s->runs[i];
                uint64_t from = start > run->start ? (start - run->start) / LAZY_PAGE : 0;
                uint64_t stop = end < run->end ? (end - run->start + LAZY_PAGE - 1) / LAZY_PAGE
                                               : run_pages(run);
                uint64_t at = s->first[i] + from;

                stop += s->first[i];
                while ((at = next_missing(s, at, stop, 1)) < stop) {
                        set_bit(s->missing, at, 0);
                        set_bit(s->asked, at, 0);
                        dropped++;
                        at++;
                }
        }
        s->nr_left -= dropped;
        return dropped;
}

static int by_start(const void *a, const void *b)
{
        uint64_t one = ((const struct ckpt_lazy_run *)a)->start;
        uint64_t other = ((const struct ckpt_lazy_run *)b)->start;

        return (one > other) - (one < other);
}

/* `run` without what is in [from, end), which is added at `to`. */
static long split(struct lazy_runs *into, struct ckpt_lazy_run run, uint64_t from, uint64_t end,
                  uint64_t to)
{
        uint64_t start = run.start > from ? run.start : from;
        uint64_t stop = run.end < end ? run.end : end;
        struct ckpt_lazy_run part = run;
        long err = 0;

        if (start >= stop)
                return lazy_runs_add(into, run);
        part.end = start;
        if (part.start < part.end)
                err = lazy_runs_add(into, part);
        part = (struct ckpt_lazy_run){.start = start - from + to,
                                      .end = stop - from + to,
                                      .source = run.source,
                                      .at = run.at + start - run.start};
        if (!err)
                err = lazy_runs_add(into, part);
        part = (struct ckpt_lazy_run){
            .start = stop, .end = run.end, .source = run.source, .at = run.at + stop - run.start};
        if (!err && part.start < part.end)
                err = lazy_runs_add(into, part);
        return err;
}

long lazy_space_move(struct lazy_space *s, uint64_t from, uint64_t to, uint64_t len)
{
        struct lazy_runs before = {0}, after = {0};
        struct lazy_space new = *s;
        long err;

        lazy_space_drop(s, to, to + len);
        if (run_from(s, from) == run_from(s, from + len) &&
            (run_from(s, from) == s->nr_runs || s->runs[run_from(s, from)].start >= from + len))
                return 0;
        err = lazy_space_missing(s, &before);
        for (uint64_t i = 0; !err && i < before.nr; i++)
                err = split(&after, before.at[i], from, from + len, to);
        if (!err && after.nr)
                qsort(after.at, after.nr, sizeof(*after.at), by_start);
        if (!err)
                err = lazy_space_make(&new, after.at, after.nr);
        free(before.at);
        free(after.at);
        if (err)
                return err;
        free_runs(s);
        *s = new;
        return 0;
}

/* Add to `to` the parts of `run` that none of the first `nr` runs there has. */
static long add_rest(struct lazy_runs *to, uint64_t nr, struct ckpt_lazy_run run)
{
        for (uint64_t i = 0; i < nr; i++) {
                const struct ckpt_lazy_run there = to->at[i];
                struct ckpt_lazy_run first = run;

                if (there.end <= run.start || run.end <= there.start)
                        continue;
                if (run.start < there.start) {
                        long err;

                        first.end = there.start;
                        err = add_rest(to, nr, first);
                        if (err)
                                return err;
                }
                if (run.end <= there.end)
                        return 0;
                run.at += there.end - run.start;
                run.start = there.end;
        }
        return lazy_runs_add(to, run);
}

long lazy_space_add(struct lazy_space *s, const struct lazy_runs *more)
{
        struct lazy_runs runs = {0};
        struct lazy_space new = *s;
        long err;

        if (!more->nr)
                return 0;
        err = lazy_space_missing(s, &runs);
        for (uint64_t i = 0; !err && i < more->nr; i++)
                err = add_rest(&runs, runs.nr, more->at[i]);
        if (!err && runs.nr)
                qsort(runs.at, runs.nr, sizeof(*runs.at), by_start);
        if (!err)
                err = lazy_space_make(&new, runs.at, runs.nr);
        free(runs.at);
        if (err)
                return err;
        free_runs(s);
        *s = new;
        return 0;
}

int lazy_space_find(const struct lazy_space *s, uint64_t addr, uint64_t *source, uint64_t *at)
{
        uint64_t i = run_from(s, addr);

        if (!lazy_space_has(s, addr))
                return 0;
        *source = s->runs[i].source;
        *at = s->runs[i].at + (addr - s->runs[i].start);
        return 1;
}

int lazy_space_has(const struct lazy_space *s, uint64_t addr)
{
        uint64_t i = run_from(s, addr);

        return i < s->nr_runs && s->runs[i].start <= addr &&
               bit(s->missing, s->first[i] + (addr - s->runs[i].start) / LAZY_PAGE);
}

/* A piece that begins with page number `at` of run number `i`, below page number `end`. */
static void piece_at(const struct lazy_space *s, uint64_t i, uint64_t at, uint64_t end,
                     uint64_t nr_max, int again, struct lazy_piece *piece)
{
        uint64_t stop = at, from = (at - s->first[i]) * LAZY_PAGE;

        while (stop < end && stop - at < nr_max && bit(s->missing, stop) &&
               (again || !bit(s->asked, stop)))
                stop++;
        *piece = (struct lazy_piece){.addr = s->runs[i].start + from,
                                     .nr_pages = stop - at,
                                     .source = s->runs[i].source,
                                     .at = s->runs[i].at + from};
}

int lazy_space_next(const struct lazy_space *s, uint64_t start, uint64_t end, uint64_t nr_max,
                    int again, struct lazy_piece *piece)
{
        for (uint64_t i = run_from(s, start); i < s->nr_runs && s->runs[i].start < end; i++) {
                const struct ckpt_lazy_run *run = &s->runs[i];
                uint64_t from = start > run->start ? (start - run->start) / LAZY_PAGE : 0;
                uint64_t stop = end < run->end ? (end - run->start) / LAZY_PAGE : run_pages(run);
                uint64_t at = next_missing(s, s->first[i] + from, s->first[i] + stop, again);

                if (at < s->first[i] + stop) {
                        piece_at(s, i, at, s->first[i] + stop, nr_max, again, piece);
                        return 1;
                }
        }
        return 0;
}

/* The run that page number `at` belongs to. */
static uint64_t run_of(const struct lazy_space *s, uint64_t at)
{
        uint64_t low = 0, high = s->nr_runs;

        while (high - low > 1) {
                uint64_t middle = low + (high - low) / 2;

                if (s->first[middle] <= at)
                        low = middle;
                else
                        high = middle;
        }
        return low;
}

int lazy_space_sweep(struct lazy_space *s, uint64_t nr_max, struct lazy_piece *piece)
{
        uint64_t at = next_missing(s, s->sweep, s->nr_pages, 0), i;

        if (at == s->nr_pages) {
                at = next_missing(s, 0, s->sweep, 0);
                if (at == s->sweep)
                        return 0;
        }
        i = run_of(s, at);
        piece_at(s, i, at, s->first[i] + run_pages(&s->runs[i]), nr_max, 0, piece);
        s->sweep = at + piece->nr_pages;
        return 1;
}

void lazy_space_ask(struct lazy_space *s, uint64_t start, uint64_t end, int asked)
{
        for (uint64_t i = run_from(s, start); i < s->nr_runs && s->runs[i].start < end; i++) {
                uint64_t from = start > s->runs[i].start ? start : s->runs[i].start;
                uint64_t stop = end < s->runs[i].end ? end : s->runs[i].end;

                for (uint64_t addr = from; addr < stop; addr += LAZY_PAGE)
                        set_bit(s->asked, s->first[i] + (addr - s->runs[i].start) / LAZY_PAGE,
                                asked);
        }
}

uint64_t lazy_space_matches(const struct lazy_space *s, uint64_t addr, uint64_t nr, uint64_t source,
                            uint64_t at)
{
        uint64_t i = run_from(s, addr), page, found = 0, left;
        const struct ckpt_lazy_run *run = &s->runs[i];

        if (i == s->nr_runs || run->start > addr || run->source != source ||
            run->at + (addr - run->start) != at)
                return 0;
        page = s->first[i] + (addr - run->start) / LAZY_PAGE;
        left = s->first[i] + run_pages(run) - page;
        while (found < nr && found < left && bit(s->missing, page + found))
                found++;
        return found;
}
