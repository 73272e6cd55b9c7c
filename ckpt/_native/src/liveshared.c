/* SPDX-License-Identifier: GPL-2.0-only */
#include "livestate.h"

#include "uffd.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "grow.h"

#define FAULT_RUN 16 /* pages around a fault that are copied with it */
#define NOTE_RUN  16

static uint64_t above(uint64_t a, uint64_t b)
{
        return a > b ? a : b;
}

static uint64_t below(uint64_t a, uint64_t b)
{
        return a < b ? a : b;
}

/* One place where a view maps part of an object; anything but 0 ends the walk. */
typedef int place_fn(struct live_mm *view, uint64_t start, uint64_t end);

static int at_each_place(struct ckpt_live *live, const struct live_mm *object, uint64_t start,
                         uint64_t end, place_fn *each)
{
        for (uint64_t i = 0; i < live->nr; i++) {
                struct live_mm *view = live->mms[i];

                for (uint64_t k = 0; !view->gone && k < view->nr_segments; k++) {
                        const struct ckpt_live_segment *s = &view->segments[k];
                        uint64_t from = above(start, s->offset);
                        uint64_t to = below(end, s->offset + (s->end - s->start));
                        int result;

                        if (s->object != object->index || from >= to)
                                continue;
                        result = each(view, s->start + from - s->offset, s->start + to - s->offset);
                        if (result)
                                return result;
                }
        }
        return 0;
}

/* Who is about to end has no protection any more, and writes nothing. */
static int is_open_to_writes(struct live_mm *view, uint64_t start, uint64_t end)
{
        return view->pagemap >= 0 && !live_is_protected(view, start, (end - start) / PAGE) &&
               uffd_protect(view->uffd, start, PAGE, 1) != -ESRCH;
}

int live_share_is_protected(struct ckpt_live *live, const struct live_mm *object, uint64_t offset,
                            uint64_t nr)
{
        return !at_each_place(live, object, offset, offset + nr * PAGE, is_open_to_writes);
}

int live_share_is_changing(const struct ckpt_live *live)
{
        for (uint64_t i = 0; i < live->nr; i++) {
                const struct live_mm *view = live->mms[i];

                if (view->kind == LIVE_VIEW && !view->gone && live_is_changing(view))
                        return 1;
        }
        return 0;
}

long live_share_listen(struct ckpt_live *live)
{
        for (uint64_t i = 0; i < live->nr; i++) {
                struct live_mm *view = live->mms[i];
                long err;

                if (view->kind != LIVE_VIEW || view->gone || !live_is_changing(view))
                        continue;
                err = live_listen_again(live, view);
                if (err && err != -ESRCH)
                        return err;
        }
        return 0;
}

/* If it can't be done now, a fault does it, or the end of the registration. */
static int unprotect(struct live_mm *view, uint64_t start, uint64_t end)
{
        if (uffd_protect(view->uffd, start, end - start, 0) != -ESRCH)
                return 0;
        view->gone = 1;
        if (view->parent >= 0 && !view->known) {
                close(view->uffd);
                close(view->fdinfo);
                view->uffd = view->fdinfo = -1;
        }
        return 0;
}

void live_share_unprotect(struct ckpt_live *live, const struct live_mm *object, uint64_t start,
                          uint64_t end)
{
        at_each_place(live, object, start, end, unprotect);
}

static int note(struct live_mm *view, uint64_t start, uint64_t end)
{
        live_note(view, start, end);
        return 0;
}

/* Before the object is covered: in ascending runs. */
static long note_fault(struct ckpt_live *live, struct live_mm *view, uint64_t limit, uint64_t addr)
{
        uint64_t end;

        live->figures.nr_noted++;
        view->run = addr == view->next && 2 * view->run <= NOTE_RUN ? 2 * view->run : 1;
        end = below(addr + view->run * PAGE, limit);
        view->next = end;
        live_note(view, addr, end);
        if (!uffd_protect(view->uffd, addr, end - addr, 0))
                return 0;
        return live_unprotect(live, view, addr, addr + PAGE);
}

static long fault(struct ckpt_live *live, struct live_mm *view, uint64_t addr)
{
        const struct ckpt_live_segment *s = view->segments, *last = s + view->nr_segments;
        uint64_t start, end, offset, before;
        struct live_mm *object;
        long err;

        while (s < last && (addr < s->start || addr >= s->end))
                s++;
        /* Moved: that loses the snapshot, unless all is copied. */
        if (s == last)
                return live_unprotect(live, view, addr, addr + PAGE);
        object = live->mms[s->object];
        if (!object->covered)
                return note_fault(live, view, s->end, addr);
        live->figures.nr_faults++;
        offset = s->offset + (addr - s->start);
        start = above(offset & ~(FAULT_RUN * PAGE - 1), s->offset);
        end = below((offset & ~(FAULT_RUN * PAGE - 1)) + FAULT_RUN * PAGE,
                    s->offset + (s->end - s->start));
        before = object->nr_left;
        err = live_copy_left(live, object, start, end, 0);
        if (err)
                return err;
        live->figures.fault_pages += before - object->nr_left;
        live_share_unprotect(live, object, start, end);
        return live_unprotect(live, view, addr, addr + PAGE);
}

/* What is left of [start, end) of a view can't be had any more as it was. */
static void demand_saved(struct ckpt_live *live, const struct live_mm *view, uint64_t start,
                         uint64_t end)
{
        for (uint64_t k = 0; k < view->nr_segments; k++) {
                const struct ckpt_live_segment *s = &view->segments[k];
                uint64_t from = above(start, s->start), to = below(end, s->end), offset;
                struct live_mm *object = live->mms[s->object];

                if (from < to && live_has_left(object, s->offset + from - s->start,
                                               s->offset + to - s->start, &offset))
                        live_lost(live, object, offset);
        }
}

/* [start, end) is not mapped any more. */
static long forget(struct live_mm *view, uint64_t start, uint64_t end)
{
        struct ckpt_live_segment *kept = calloc(2 * view->nr_segments + 1, sizeof(*kept));
        uint64_t nr = 0;

        if (!kept)
                return -ENOMEM;
        for (uint64_t k = 0; k < view->nr_segments; k++) {
                struct ckpt_live_segment low = view->segments[k], high = low;

                low.end = below(low.end, start);
                if (low.start < low.end)
                        kept[nr++] = low;
                high.start = above(high.start, end);
                high.offset += high.start - view->segments[k].start;
                if (high.start < high.end)
                        kept[nr++] = high;
        }
        free(view->segments);
        view->segments = kept;
        view->nr_segments = nr;
        return 0;
}

/* A fork: the child is as protected as its parent, and has not run yet. */
static long born(struct ckpt_live *live, struct live_mm *view, int uffd)
{
        size_t size = view->nr_segments * sizeof(*view->segments);
        struct live_mm child = {
            .kind = LIVE_VIEW, .uffd = uffd, .mem = -1, .pagemap = -1, .parent = view->parent};
        char told[64];
        long index = -ENOMEM;

        if (child.parent < 0)
                child.parent = view->index;
        snprintf(told, sizeof(told), "/proc/self/fdinfo/%d", uffd);
        child.fdinfo = open(told, O_RDONLY | O_CLOEXEC);
        child.segments = malloc(size + 1);
        if (child.segments && child.fdinfo >= 0) {
                memcpy(child.segments, view->segments, size);
                child.nr_segments = view->nr_segments;
                index = live_append(live, &child);
        }
        if (index >= 0)
                return 0;
        /* It runs without protection. */
        view->moved = 1;
        demand_saved(live, view, 0, UINT64_MAX);
        free(child.segments);
        close(child.fdinfo);
        close(uffd);
        return 0;
}

/* Pages of an object are gone; whoever maps them has no protection there any more. */
static void removed(struct ckpt_live *live, struct live_mm *view, uint64_t start, uint64_t end)
{
        demand_saved(live, view, start, end);
        for (uint64_t k = 0; k < view->nr_segments; k++) {
                const struct ckpt_live_segment *s = &view->segments[k];
                uint64_t from = above(start, s->start), to = below(end, s->end);

                if (from < to)
                        at_each_place(live, live->mms[s->object], s->offset + from - s->start,
                                      s->offset + to - s->start, note);
        }
}

long live_share_handle(struct ckpt_live *live, struct live_mm *view, const struct uffd_msg *message)
{
        uint64_t from = message->arg.remap.from, len = message->arg.remap.len;

        switch (message->event) {
        case UFFD_EVENT_PAGEFAULT:
                return fault(live, view, message->arg.pagefault.address & ~(PAGE - 1));
        case UFFD_EVENT_FORK:
                return born(live, view, (int)message->arg.fork.ufd);
        case UFFD_EVENT_REMAP:
                view->moved = 1;
                /* Without a length it was doubled, not moved. */
                demand_saved(live, view, len ? from : 0, len ? from + len : UINT64_MAX);
                return forget(view, from, from + len);
        case UFFD_EVENT_REMOVE:
                removed(live, view, message->arg.remove.start, message->arg.remove.end);
                return 0;
        case UFFD_EVENT_UNMAP:
                return forget(view, message->arg.remove.start, message->arg.remove.end);
        default:
                return 0;
        }
}

long live_share_save(struct ckpt_live *live, struct live_mm *view, uint64_t start, uint64_t end)
{
        for (uint64_t k = 0; k < view->nr_segments; k++) {
                struct ckpt_live_segment s = view->segments[k];
                uint64_t from = above(start, s.start), to = below(end, s.end);
                long err;

                if (from >= to)
                        continue;
                err = live_save(live, live->mms[s.object], s.offset + from - s.start,
                                s.offset + to - s.start, 1);
                if (err)
                        return err;
        }
        return 0;
}

long ckpt_live_map(struct ckpt_live *live, long view, const struct ckpt_live_segment *segments,
                   uint64_t nr)
{
        struct ckpt_live_segment *copy = malloc((nr + 1) * sizeof(*copy));

        if (!copy)
                return -ENOMEM;
        memcpy(copy, segments, nr * sizeof(*copy));
        pthread_mutex_lock(&live->lock);
        free(live->mms[view]->segments);
        live->mms[view]->segments = copy;
        live->mms[view]->nr_segments = nr;
        pthread_mutex_unlock(&live->lock);
        return 0;
}

long ckpt_live_next_child(struct ckpt_live *live, long from, struct ckpt_live_child *child)
{
        long found = 0;

        pthread_mutex_lock(&live->lock);
        for (uint64_t i = (uint64_t)from; !found && i < live->nr; i++) {
                struct live_mm *mm = live->mms[i];

                if (mm->parent < 0 || mm->gone)
                        continue;
                mm->known = 1;
                *child = (struct ckpt_live_child){
                    .index = mm->index, .parent = mm->parent, .uffd = mm->uffd};
                found = 1;
        }
        pthread_mutex_unlock(&live->lock);
        return found;
}

int ckpt_live_moved(struct ckpt_live *live, long view)
{
        int moved;

        pthread_mutex_lock(&live->lock);
        moved = live->mms[view]->moved;
        pthread_mutex_unlock(&live->lock);
        return moved;
}

/* Data between two ranges that are known. */
static long find_between(int lfd, uint64_t start, uint64_t end, struct extents *to)
{
        while (start < end) {
                off_t data = lseek(lfd, (off_t)start, SEEK_DATA), hole;
                long err;

                if (data < 0)
                        return errno == ENXIO ? 0 : -errno;
                if ((uint64_t)data >= end)
                        return 0;
                hole = lseek(lfd, data, SEEK_HOLE);
                if (hole < 0)
                        return -errno;
                start = below(((uint64_t)hole + PAGE - 1) & ~(PAGE - 1), end);
                err = extents_append(to, (uint64_t)data & ~(PAGE - 1), start, 1);
                if (err)
                        return err;
        }
        return 0;
}

long ckpt_find_data(int lfd, uint64_t size, const struct ckpt_extent *known, uint64_t nr_known,
                    struct ckpt_extent **out)
{
        struct extents to = {0};
        uint64_t at = 0;
        long err = 0;

        for (uint64_t i = 0; !err && i < nr_known && at < size; i++) {
                err = find_between(lfd, at, below(known[i].start, size), &to);
                at = known[i].end;
        }
        if (!err)
                err = find_between(lfd, at, size, &to);
        if (err) {
                free(to.at);
                return err;
        }
        *out = to.at;
        return (long)to.nr;
}

static int64_t now_ns(clockid_t clock)
{
        struct timespec now;

        clock_gettime(clock, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int64_t ckpt_born_ns(int lfd)
{
        struct statx seen;
        int64_t born;

        if (statx(lfd, "", AT_EMPTY_PATH, STATX_BTIME, &seen) < 0)
                return -errno;
        if (!(seen.stx_mask & STATX_BTIME))
                return -ENODATA;
        born = seen.stx_btime.tv_sec * 1000000000LL + seen.stx_btime.tv_nsec;
        return born - now_ns(CLOCK_REALTIME) + now_ns(CLOCK_BOOTTIME);
}
