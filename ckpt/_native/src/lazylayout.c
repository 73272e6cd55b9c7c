/* SPDX-License-Identifier: GPL-2.0-only */
#include "lazylayout.h"

#include "lazyorder.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* The runs after `head`: a change of a space, and what was missing then. */
static long load_change(struct lazy_state *s, const struct ckpt_lazy_space *head, const char **at)
{
        const struct ckpt_lazy_run *runs = (const struct ckpt_lazy_run *)*at;
        struct lazy_change change = {0};
        long err = head->object < s->nr_spaces && head->nr_runs ? 0 : -EILSEQ;

        if (!err)
                change = (struct lazy_change){.from = runs[0].start,
                                              .to = runs[0].source,
                                              .len = runs[0].end - runs[0].start};
        for (uint64_t i = 1; !err && i < head->nr_runs; i++)
                err = lazy_runs_add(&change.pieces, runs[i]);
        if (!err)
                err = lazy_change_add(&s->spaces[head->object], change);
        *at += head->nr_runs * sizeof(*runs);
        return err;
}

static long load_space(struct lazy_state *s, const char **at, const char *end)
{
        struct ckpt_lazy_space head;
        struct lazy_space space = {0};
        uint64_t object = 0;
        long err;

        if ((size_t)(end - *at) < sizeof(head))
                return -EILSEQ;
        memcpy(&head, *at, sizeof(head));
        *at += sizeof(head);
        if ((size_t)(end - *at) / sizeof(struct ckpt_lazy_run) < head.nr_runs)
                return -EILSEQ;
        if (head.flags & CKPT_LAZY_CHANGE)
                return load_change(s, &head, at);
        space.uffd = head.uffd;
        space.pidfd = head.pidfd;
        space.flags = head.flags;
        *(head.flags & CKPT_LAZY_YOUNG ? &space.parent : &object) = head.object;
        space.object = (uint32_t)object;
        err = lazy_space_make(&space, (const struct ckpt_lazy_run *)*at, head.nr_runs);
        *at += head.nr_runs * sizeof(struct ckpt_lazy_run);
        return err ? err : lazy_state_add(s, space);
}

long lazy_layout_load(struct lazy_state *s, int layout)
{
        struct stat status;
        const char *at, *end;
        void *map;
        long err = 0;

        if (fstat(layout, &status) < 0)
                return -errno;
        if (!status.st_size)
                return 0;
        map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, layout, 0);
        if (map == MAP_FAILED)
                return -errno;
        at = map;
        end = at + status.st_size;
        while (!err && at < end)
                err = load_space(s, &at, end);
        munmap(map, (size_t)status.st_size);
        return err;
}

static long write_all(int to, const void *from, size_t len)
{
        while (len) {
                ssize_t done = write(to, from, len);

                if (done < 0 && errno != EINTR)
                        return -errno;
                if (done > 0) {
                        from = (const char *)from + done;
                        len -= (size_t)done;
                }
        }
        return 0;
}

static long write_space(int to, struct ckpt_lazy_space head, const struct lazy_runs *runs)
{
        long err;

        head.nr_runs = runs->nr;
        err = write_all(to, &head, sizeof(head));
        return err ? err : write_all(to, runs->at, runs->nr * sizeof(*runs->at));
}

static long write_changes(int to, uint32_t space, const struct lazy_changes *changes)
{
        struct ckpt_lazy_space head = {
            .uffd = -1, .pidfd = -1, .flags = CKPT_LAZY_CHANGE, .object = space};
        long err = 0;

        for (uint64_t i = 0; !err && changes && i < changes->nr; i++) {
                const struct lazy_change *change = &changes->at[i];
                struct lazy_runs runs = {0};

                err = lazy_runs_add(&runs, (struct ckpt_lazy_run){.start = change->from,
                                                                  .end = change->from + change->len,
                                                                  .source = change->to});
                for (uint64_t n = 0; !err && n < change->pieces.nr; n++)
                        err = lazy_runs_add(&runs, change->pieces.at[n]);
                if (!err)
                        err = write_space(to, head, &runs);
                free(runs.at);
        }
        return err;
}

long lazy_layout_write(const struct lazy_state *s, int to)
{
        long err = 0;

        for (uint64_t i = 0; !err && i < s->nr_spaces; i++) {
                const struct lazy_space *space = &s->spaces[i];
                int young = (space->flags & CKPT_LAZY_YOUNG) != 0;
                struct lazy_runs runs = {0};

                err = lazy_space_missing(space, &runs);
                if (!err)
                        err = write_space(
                            to,
                            (struct ckpt_lazy_space){
                                .uffd = space->flags & CKPT_LAZY_OBJECT ? -1 : space->uffd,
                                .pidfd = space->pidfd,
                                .flags = space->flags,
                                .object = young ? (uint32_t)space->parent : space->object},
                            &runs);
                free(runs.at);
        }
        for (uint64_t i = 0; !err && i < s->nr_spaces; i++)
                err = write_changes(to, (uint32_t)i, s->spaces[i].changes);
        return err;
}
