/* SPDX-License-Identifier: GPL-2.0-only */
#include "livestate.h"

#include "uffd.h"

#include <poll.h>
#include <time.h>

#include "pagemap.h"

#define FAULT_RUN 16 /* pages around a fault that are copied with it */
#define NOTE_RUN  16

static int is_done(const struct live_mm *mm, uint64_t number)
{
        return (int)(mm->done[number / 64] >> number % 64 & 1);
}

static void set_done(struct ckpt_live *live, struct live_mm *mm, uint64_t first, uint64_t nr)
{
        for (uint64_t i = first; i < first + nr; i++)
                mm->done[i / 64] |= 1ULL << i % 64;
        mm->nr_left -= nr;
        live->figures.done_pages += nr;
}

/* The next run of pages that are left in [*at, end), at most `most` long. */
static uint64_t next_left(const struct live_mm *mm, uint64_t *at, uint64_t end, uint64_t most)
{
        uint64_t nr = 0;

        while (*at < end && is_done(mm, *at)) {
                if (*at % 64 == 0 && mm->done[*at / 64] == UINT64_MAX)
                        *at += 64;
                else
                        (*at)++;
        }
        while (nr < most && *at + nr < end && !is_done(mm, *at + nr))
                nr++;
        return nr;
}

static long read_memory(const struct live_mm *mm, char *to, uint64_t addr, uint64_t len)
{
        while (len) {
                ssize_t n = pread(mm->mem, to, len, (off_t)addr);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n ? -errno : -ESRCH;
                to += n;
                addr += (uint64_t)n;
                len -= (uint64_t)n;
        }
        return 0;
}

/* Whoever unmaps memory of several userfaultfds at once tells one after the other, and all of them
 * say meanwhile that something is changing: the event to wait for may be that of another one. */
long live_listen_again(struct ckpt_live *live, struct live_mm *mm)
{
        struct timespec limit = {.tv_nsec = 50000};
        struct pollfd wait = {.fd = mm->uffd, .events = POLLIN};
        long err;

        ppoll(&wait, 1, &limit, NULL);
        err = live_listen(live, mm);
        for (uint64_t i = 0; !err && i < live->nr; i++) {
                struct live_mm *other = live->mms[i];

                if (other == mm || other->gone || other->uffd < 0)
                        continue;
                err = live_listen(live, other);
                if (err == -ESRCH)
                        err = 0; /* no matter of this one: it is found when it is asked for */
        }
        return err;
}

/* A request for nothing says so before anything else. */
int live_is_changing(const struct live_mm *mm)
{
        return uffd_protect(mm->uffd, 0, 0, 0) == -EAGAIN;
}

int live_is_protected(const struct live_mm *mm, uint64_t addr, uint64_t nr)
{
        struct page_region region;
        struct pm_scan_arg arg = {
            .size = sizeof(arg),
            .start = addr,
            .end = addr + nr * PAGE,
            .vec = (uintptr_t)&region,
            .vec_len = 1,
            .category_mask = PAGE_IS_WRITTEN,
            .return_mask = PAGE_IS_WRITTEN,
        };

        return ioctl(mm->pagemap, PAGEMAP_SCAN, &arg) == 0;
}

static int is_protected(struct ckpt_live *live, const struct live_mm *mm, uint64_t addr,
                        uint64_t nr)
{
        return mm->kind == LIVE_OBJECT ? live_share_is_protected(live, mm, addr, nr)
                                       : live_is_protected(mm, addr, nr);
}

static int is_changing(const struct ckpt_live *live, const struct live_mm *mm)
{
        return mm->kind == LIVE_OBJECT ? live_share_is_changing(live) : live_is_changing(mm);
}

static long listen_again(struct ckpt_live *live, struct live_mm *mm)
{
        return mm->kind == LIVE_OBJECT ? live_share_listen(live) : live_listen_again(live, mm);
}

/* At most a buffer's worth into `to`, which is submitted, or given back where that was not to be:
 * then the pages are copied by now, or lost, or to be looked at again. What was protected after it
 * was read, was so when it was read: nobody protects anything any more. `sure`: there is no event
 * to wait for, in which these pages could have been moved. */
static long copy_run(struct ckpt_live *live, struct live_mm *mm, uint64_t first, uint64_t nr,
                     uint64_t addr, struct buffer *to, int sure)
{
        int changing = 0;
        long err = 0;

        if (!read_memory(mm, to->data, addr, nr * PAGE) && is_protected(live, mm, addr, nr)) {
                to->file = mm->pages;
                to->offset = first * PAGE;
                to->len = nr * PAGE;
                buffers_submit(&live->buffers, to);
                set_done(live, mm, first, nr);
                return 0;
        }
        buffers_return(&live->buffers, to);
        while (!sure && !err && is_changing(live, mm)) {
                changing = 1;
                err = listen_again(live, mm);
        }
        if (!changing)
                live_lost(live, mm, addr);
        return err;
}

long live_copy(struct ckpt_live *live, struct live_mm *mm, uint64_t first, uint64_t nr,
               uint64_t addr, int sure)
{
        uint64_t at = first, run;
        long err = 0;

        while (!err && mm->covered && (run = next_left(mm, &at, first + nr, STEP))) {
                struct buffer *to = buffers_take(&live->buffers, 1);

                if (!to)
                        return -ENOBUFS;
                err = copy_run(live, mm, at, run, addr + (at - first) * PAGE, to, sure);
        }
        return err;
}

int live_has_left(const struct live_mm *mm, uint64_t start, uint64_t end, uint64_t *addr)
{
        uint64_t at, last, left;

        if (!mm->covered)
                return 0;
        at = placement_above(&mm->place, start);
        last = placement_above(&mm->place, end);
        if (!next_left(mm, &at, last, 1))
                return 0;
        *addr = placement_addr(&mm->place, at, &left);
        return 1;
}

long live_copy_left(struct ckpt_live *live, struct live_mm *mm, uint64_t start, uint64_t end,
                    int sure)
{
        uint64_t at, last;
        long err = 0;

        if (!mm->covered)
                return 0;
        at = placement_above(&mm->place, start);
        last = placement_above(&mm->place, end);
        while (!err && mm->covered && next_left(mm, &at, last, 1)) {
                uint64_t left, addr = placement_addr(&mm->place, at, &left);

                if (left > last - at)
                        left = last - at;
                err = live_copy(live, mm, at, left, addr, sure);
                at += left;
        }
        return err;
}

long live_save(struct ckpt_live *live, struct live_mm *mm, uint64_t start, uint64_t end, int sure)
{
        uint64_t before = mm->nr_left;
        long err = live_copy_left(live, mm, start, end, sure);

        live->figures.saved_pages += before - mm->nr_left;
        return err;
}

/* One page, of whatever size it is there. What is gone, or not ours any more, is not protected. */
static long unprotect_odd(struct live_mm *mm, uint64_t addr)
{
        static const uint64_t sizes[] = {PAGE, HUGE_PAGE, 1ULL << 30};
        struct uffdio_range wake = {.start = addr, .len = PAGE};
        long err = -EINVAL;

        for (unsigned i = 0; err == -EINVAL && i < 3; i++)
                err = uffd_protect(mm->uffd, addr & ~(sizes[i] - 1), sizes[i], 0);
        if (err != -ENOENT && err != -EINVAL)
                return err;
        return ioctl(mm->uffd, UFFDIO_WAKE, &wake) < 0 ? -errno : 0;
}

long live_unprotect(struct ckpt_live *live, struct live_mm *mm, uint64_t start, uint64_t end)
{
        long err;

        while ((err = uffd_protect(mm->uffd, start, end - start, 0)) == -EAGAIN)
                if ((err = listen_again(live, mm)))
                        return err;
        if (err != -ENOENT && err != -EINVAL)
                return err;
        err = 0;
        for (uint64_t at = start; !err && at < end; at += PAGE)
                while ((err = unprotect_odd(mm, at)) == -EAGAIN)
                        if ((err = listen_again(live, mm)))
                                return err;
        return err;
}

/* If it can't be done now, a fault does it, or the end of the registration. */
static long clear_swept(struct ckpt_live *live, struct live_mm *mm)
{
        struct ckpt_extent clear = mm->clear;
        long err = 0;

        mm->clear = (struct ckpt_extent){0};
        if (mm->lent)
                return 0;
        if (clear.start < clear.end && mm->kind == LIVE_OBJECT)
                live_share_unprotect(live, mm, clear.start, clear.end);
        else if (clear.start < clear.end)
                err = uffd_protect(mm->uffd, clear.start, clear.end - clear.start, 0);
        return err == -ESRCH ? err : 0;
}

long live_sweep_step(struct ckpt_live *live, struct live_mm *mm, struct buffer *to)
{
        uint64_t nr, left, addr, before;
        long err = 0;

        nr = mm->covered ? next_left(mm, &mm->cursor, mm->place.nr_pages, STEP) : 0;
        if (!nr) {
                buffers_return(&live->buffers, to);
                return clear_swept(live, mm);
        }
        addr = placement_addr(&mm->place, mm->cursor, &left);
        if (nr > left)
                nr = left;
        /* What is unprotected at once ends where a huge page does. */
        if (addr / HUGE_PAGE != (addr + (nr - 1) * PAGE) / HUGE_PAGE)
                nr = (HUGE_PAGE - addr % HUGE_PAGE) / PAGE;
        if (mm->clear.end != addr || addr % HUGE_PAGE == 0)
                err = clear_swept(live, mm);
        if (err) {
                buffers_return(&live->buffers, to);
                return err;
        }
        before = mm->nr_left;
        err = copy_run(live, mm, mm->cursor, nr, addr, to, 0);
        if (err || before - mm->nr_left != nr || !is_done(mm, mm->cursor))
                return err ? err : 1;
        live->figures.swept_pages += nr;
        if (mm->clear.end != addr)
                mm->clear.start = addr;
        mm->clear.end = addr + nr * PAGE;
        mm->cursor += nr;
        return 1;
}

static int is_huge(const struct live_mm *mm, uint64_t start)
{
        struct page_region region;
        struct pm_scan_arg arg = {
            .size = sizeof(arg),
            .start = start,
            .end = start + HUGE_PAGE,
            .vec = (uintptr_t)&region,
            .vec_len = 1,
            .category_mask = PAGE_IS_PRESENT | PAGE_IS_HUGE,
            .return_mask = PAGE_IS_HUGE,
        };

        return ioctl(mm->pagemap, PAGEMAP_SCAN, &arg) == 1 && region.start == start &&
               region.end == start + HUGE_PAGE;
}

/* How many pages to unprotect for a fault: twice as many as the last time, where faults ascend. */
static uint64_t run_from(struct live_mm *mm, uint64_t addr, uint64_t most)
{
        mm->run = addr == mm->next && 2 * mm->run <= NOTE_RUN ? 2 * mm->run : 1;
        if (mm->run > most)
                mm->run = most;
        mm->next = addr + mm->run * PAGE;
        return mm->run;
}

/* Before the memory is covered: like ckpt_serve_wp(), in ascending runs. Who lends wants to know
 * what was written, so that a huge page is split for it, unless it is one of hugetlbfs. */
static long note(struct ckpt_live *live, struct live_mm *mm, uint64_t addr)
{
        uint64_t huge = addr & ~(HUGE_PAGE - 1);
        long err;

        live->figures.nr_noted++;
        if (is_huge(mm, huge)) {
                live_note(mm, huge, huge + HUGE_PAGE);
                if (!mm->lent)
                        return live_unprotect(live, mm, huge, huge + HUGE_PAGE);
        }
        run_from(mm, addr, NOTE_RUN);
        live_note(mm, addr, mm->next);
        err = uffd_protect(mm->uffd, addr, mm->run * PAGE, 0);
        return err ? live_unprotect(live, mm, addr, addr + PAGE) : 0;
}

long live_fault(struct ckpt_live *live, struct live_mm *mm, uint64_t addr)
{
        uint64_t huge = addr & ~(HUGE_PAGE - 1), start, end, left, number, back, before;
        long err;

        if (!mm->covered)
                return note(live, mm, addr);
        live->figures.nr_faults++;
        number = placement_find(&mm->place, addr, &left);
        if (is_huge(mm, huge)) {
                start = huge;
                end = huge + HUGE_PAGE;
        } else if (number == NOWHERE) {
                return live_unprotect(live, mm, addr, addr + PAGE);
        } else {
                /* As far as there are pages, in a row, around the one that is waited for. */
                back = addr / PAGE % FAULT_RUN;
                while (back &&
                       placement_find(&mm->place, addr - back * PAGE, &end) + back != number)
                        back--;
                start = addr - back * PAGE;
                end = addr - addr % (FAULT_RUN * PAGE) + FAULT_RUN * PAGE;
                if (end > addr + left * PAGE)
                        end = addr + left * PAGE;
        }
        before = mm->nr_left;
        for (uint64_t at = start, nr; at < end; at += nr * PAGE) {
                number = placement_find(&mm->place, at, &left);
                nr = number == NOWHERE ? 1 : left < (end - at) / PAGE ? left : (end - at) / PAGE;
                err = number == NOWHERE ? 0 : live_copy(live, mm, number, nr, at, 0);
                if (err)
                        return err;
        }
        live->figures.fault_pages += before - mm->nr_left;
        if (mm->lent) {
                start = addr;
                end = addr + run_from(mm, addr, (end - addr) / PAGE) * PAGE;
        }
        return live_unprotect(live, mm, start, end);
}
