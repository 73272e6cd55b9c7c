/* SPDX-License-Identifier: GPL-2.0-only */
#include "livestate.h"

#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#define NR_STEPS 16 /* of the sweep, without a look at the clock */
#define NAP_NS   50000000

/* Processor time of this thread. */
static int64_t worked_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
}

struct ckpt_live *ckpt_live_new(uint64_t room)
{
        struct ckpt_live *live = calloc(1, sizeof(*live));
        pthread_mutexattr_t inherit;

        if (!live)
                return NULL;
        live->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        live->over = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (live->wake < 0 || live->over < 0) {
                close(live->wake);
                close(live->over);
                free(live);
                return NULL;
        }
        pthread_mutexattr_init(&inherit);
        pthread_mutexattr_setprotocol(&inherit, PTHREAD_PRIO_INHERIT);
        pthread_mutex_init(&live->lock, &inherit);
        pthread_mutexattr_destroy(&inherit);
        pthread_cond_init(&live->begun, NULL);
        buffers_init(&live->buffers, room, live->wake);
        return live;
}

static void free_mm(struct live_mm *mm)
{
        free(mm->noted);
        free(mm->displaced);
        free(mm);
}

void ckpt_live_free(struct ckpt_live *live)
{
        for (uint64_t i = 0; i < live->nr; i++) {
                struct live_mm *mm = live->mms[i];

                if (mm->parent >= 0 && mm->uffd >= 0) {
                        close(mm->uffd);
                        close(mm->fdinfo);
                }
                placement_free(&mm->place);
                free(mm->segments);
                free(mm->done);
                free_mm(mm);
        }
        free(live->mms);
        buffers_destroy(&live->buffers);
        pthread_cond_destroy(&live->begun);
        pthread_mutex_destroy(&live->lock);
        close(live->wake);
        close(live->over);
        free(live);
}

static void wake(struct ckpt_live *live)
{
        eventfd_write(live->wake, 1);
}

long live_append(struct ckpt_live *live, const struct live_mm *like)
{
        struct live_mm *mm = malloc(sizeof(*mm)), **mms;

        if (!mm)
                return -ENOMEM;
        *mm = *like;
        mm->noted = calloc(1, sizeof(*mm->noted));
        mm->displaced = calloc(1, sizeof(*mm->displaced));
        mms = realloc(live->mms, (live->nr + 1) * sizeof(*mms));
        if (mms)
                live->mms = mms;
        if (!mms || !mm->noted || !mm->displaced) {
                free_mm(mm);
                return -ENOMEM;
        }
        mm->run = 1;
        mm->index = (long)live->nr;
        mms[live->nr++] = mm;
        wake(live);
        return mm->index;
}

static long add(struct ckpt_live *live, const struct live_mm *like)
{
        long index;

        pthread_mutex_lock(&live->lock);
        index = live_append(live, like);
        pthread_mutex_unlock(&live->lock);
        return index;
}

long ckpt_live_add(struct ckpt_live *live, int pid, int uffd, int mem, int pagemap, int fdinfo,
                   int lent)
{
        struct live_mm like = {.pid = pid,
                               .uffd = uffd,
                               .mem = mem,
                               .pagemap = pagemap,
                               .fdinfo = fdinfo,
                               .lent = lent,
                               .parent = -1};

        return add(live, &like);
}

long ckpt_live_add_view(struct ckpt_live *live, int pid, int uffd, int pagemap, int fdinfo)
{
        struct live_mm like = {.kind = LIVE_VIEW,
                               .pid = pid,
                               .uffd = uffd,
                               .mem = -1,
                               .pagemap = pagemap,
                               .fdinfo = fdinfo,
                               .parent = -1};

        return add(live, &like);
}

long ckpt_live_add_object(struct ckpt_live *live, int pid, int lfd)
{
        struct live_mm like = {.kind = LIVE_OBJECT,
                               .pid = pid,
                               .uffd = -1,
                               .mem = lfd,
                               .pagemap = -1,
                               .fdinfo = -1,
                               .parent = -1};

        return add(live, &like);
}

long ckpt_live_noted(struct ckpt_live *live, long index, int which, struct ckpt_extent **out)
{
        struct live_mm *mm;
        long nr;

        pthread_mutex_lock(&live->lock);
        mm = live->mms[index];
        nr = notes_take(which == CKPT_LIVE_DISPLACED ? mm->displaced : mm->noted, out);
        pthread_mutex_unlock(&live->lock);
        return nr;
}

/* Mark pages as done, or as not, a word at a time. */
static long mark(struct live_mm *mm, const struct ckpt_extent *ranges, uint64_t nr, int done)
{
        for (uint64_t i = 0, hint = 0; i < nr; i++) {
                uint64_t left, at = placement_next(&mm->place, &hint, ranges[i].start, &left);
                uint64_t pages = (ranges[i].end - ranges[i].start) / PAGE, end = at + pages;

                if (at == NOWHERE || pages > left)
                        return -ERANGE;
                while (at < end) {
                        uint64_t some = 64 - at % 64 < end - at ? 64 - at % 64 : end - at;
                        uint64_t bits = (some == 64 ? UINT64_MAX : (1ULL << some) - 1) << at % 64;
                        uint64_t *word = &mm->done[at / 64];
                        uint64_t before = (uint64_t)__builtin_popcountll(*word & bits);

                        *word = done ? *word | bits : *word & ~bits;
                        mm->nr_left += before;
                        mm->nr_left -= (uint64_t)__builtin_popcountll(*word & bits);
                        at += some;
                }
        }
        return 0;
}

long ckpt_live_cover(struct ckpt_live *live, long index, const struct ckpt_extent *all,
                     uint64_t nr_all, const struct ckpt_extent *covered, uint64_t nr_covered,
                     int pages)
{
        struct live_mm *mm;
        long err;

        pthread_mutex_lock(&live->lock);
        mm = live->mms[index];
        err = placement_make(&mm->place, all, nr_all);
        mm->done = malloc(mm->place.nr_pages / 8 + 8);
        if (!err && !mm->done)
                err = -ENOMEM;
        if (!err) {
                memset(mm->done, 0xff, mm->place.nr_pages / 8 + 8);
                err = mark(mm, covered, nr_covered, 0);
        }
        if (!err) {
                mm->pages = pages;
                mm->covered = 1;
                live->figures.covered_pages += mm->nr_left;
        }
        pthread_mutex_unlock(&live->lock);
        return err;
}

long ckpt_live_leave_out(struct ckpt_live *live, long index, const struct ckpt_extent *pages,
                         uint64_t nr)
{
        struct live_mm *mm;
        uint64_t before;
        long err;

        pthread_mutex_lock(&live->lock);
        mm = live->mms[index];
        before = mm->nr_left;
        err = mark(mm, pages, nr, 1);
        live->figures.covered_pages -= before - mm->nr_left;
        pthread_mutex_unlock(&live->lock);
        return err;
}

void ckpt_live_begin(struct ckpt_live *live, unsigned percent)
{
        pthread_mutex_lock(&live->lock);
        live->percent = percent < 1 ? 1 : percent > 100 ? 100 : percent;
        pthread_cond_broadcast(&live->begun);
        pthread_mutex_unlock(&live->lock);
        wake(live);
}

/* What remains is to let everybody go on. */
static void give_up(struct ckpt_live *live)
{
        for (uint64_t i = 0; i < live->nr; i++)
                live->mms[i]->covered = 0;
        eventfd_write(live->over, 1);
}

void live_lost(struct ckpt_live *live, const struct live_mm *mm, uint64_t addr)
{
        if (!live->figures.lost_pid) {
                live->figures.lost_pid = mm->pid;
                live->figures.lost_addr = addr;
        }
        give_up(live);
}

/* -ESRCH is no error of ours, but of the snapshot if there was something left. Without buffers, for
 * nothing can be written any more, faults are served all the same. */
static long judge(struct ckpt_live *live, struct live_mm *mm, long err)
{
        if (err == -ESRCH) {
                mm->gone = 1;
                if (mm->covered && mm->nr_left)
                        live_lost(live, mm, 0);
                return 0;
        }
        if (err == -ENOBUFS) {
                live->figures.error = (int32_t)err;
                give_up(live);
                return 0;
        }
        return err;
}

static void rest(struct ckpt_live *live, int64_t work_ns)
{
        int64_t rest_ns = work_ns * (100 - live->percent) / live->percent;

        while (rest_ns > 0 && !atomic_load(&live->stopped)) {
                int64_t nap_ns = rest_ns < NAP_NS ? rest_ns : NAP_NS;
                struct timespec nap = {.tv_nsec = nap_ns};

                nanosleep(&nap, NULL);
                rest_ns -= nap_ns;
        }
}

/* One step in one of all: 1; 0: nothing is left there; or -errno: -ENOENT: there is no such one. */
static long sweep_some(struct ckpt_live *live, uint64_t index)
{
        struct buffer *to = buffers_take(&live->buffers, 0);
        struct live_mm *mm;
        long done = -ENOBUFS;

        pthread_mutex_lock(&live->lock);
        if (index >= live->nr) {
                if (to)
                        buffers_return(&live->buffers, to);
                pthread_mutex_unlock(&live->lock);
                return -ENOENT;
        }
        mm = live->mms[index];
        if (to && mm->gone) {
                buffers_return(&live->buffers, to);
                done = 0;
        } else if (to) {
                done = live_sweep_step(live, mm, to);
        }
        done = judge(live, mm, done);
        pthread_mutex_unlock(&live->lock);
        return done;
}

void ckpt_live_sweep(struct ckpt_live *live)
{
        int64_t begun_ns;

        pthread_mutex_lock(&live->lock);
        while (!live->percent && !atomic_load(&live->stopped))
                pthread_cond_wait(&live->begun, &live->lock);
        pthread_mutex_unlock(&live->lock);
        begun_ns = worked_ns();
        for (uint64_t i = 0, steps = 0; !atomic_load(&live->stopped); steps++) {
                long done = sweep_some(live, i);

                if (done < 0)
                        break; /* what was not copied is not done: the result will tell */
                if (!done)
                        i++;
                if (steps % NR_STEPS)
                        continue;
                rest(live, worked_ns() - begun_ns);
                begun_ns = worked_ns();
        }
        wake(live);
}

/* With the lock: listen to every address space. */
static long listen_to_all(struct ckpt_live *live)
{
        long err = 0;

        for (uint64_t i = 0; !err && i < live->nr; i++) {
                struct live_mm *mm = live->mms[i];

                if (!mm->gone && mm->uffd >= 0)
                        err = judge(live, mm, live_listen(live, mm));
        }
        return err;
}

static void wait_for_some(struct ckpt_live *live, struct pollfd *waits, uint64_t nr)
{
        eventfd_t count;

        pthread_mutex_unlock(&live->lock);
        poll(waits, nr, -1);
        pthread_mutex_lock(&live->lock);
        eventfd_read(live->wake, &count);
}

static struct pollfd *what_to_wait_for(struct ckpt_live *live, struct pollfd *waits)
{
        waits = realloc(waits, (live->nr + 1) * sizeof(*waits));
        for (uint64_t i = 0; waits && i < live->nr; i++)
                waits[i] = (struct pollfd){.fd = live->mms[i]->gone ? -1 : live->mms[i]->uffd,
                                           .events = POLLIN};
        if (waits)
                waits[live->nr] = (struct pollfd){.fd = live->wake, .events = POLLIN};
        return waits;
}

static int is_over(struct ckpt_live *live)
{
        for (uint64_t i = 0; i < live->nr; i++)
                if (live->mms[i]->covered && live->mms[i]->nr_left)
                        return 0;
        return live->percent != 0;
}

/* Threads of the target wait for this one. Without the right to it, it does as others do. */
static void hurry(int on)
{
        struct sched_param first = {.sched_priority = on};

        sched_setscheduler(0, on ? SCHED_FIFO | SCHED_RESET_ON_FORK : SCHED_OTHER, &first);
}

void ckpt_live_serve(struct ckpt_live *live)
{
        struct pollfd *waits = NULL;
        long err = 0;

        hurry(1);
        pthread_mutex_lock(&live->lock);
        while (!err && !atomic_load(&live->stopped)) {
                struct pollfd *next = what_to_wait_for(live, waits);

                if (!next) {
                        err = -ENOMEM;
                        break;
                }
                waits = next;
                wait_for_some(live, waits, live->nr + 1);
                err = listen_to_all(live);
                if (!err && is_over(live) && buffers_written(&live->buffers))
                        eventfd_write(live->over, 1);
        }
        if (err)
                live->figures.error = (int32_t)err;
        eventfd_write(live->over, 1);
        pthread_mutex_unlock(&live->lock);
        hurry(0);
        free(waits);
}

void ckpt_live_write(struct ckpt_live *live)
{
        buffers_write(&live->buffers);
}

void ckpt_live_stop(struct ckpt_live *live)
{
        pthread_mutex_lock(&live->lock);
        atomic_store(&live->stopped, 1);
        pthread_cond_broadcast(&live->begun);
        pthread_mutex_unlock(&live->lock);
        buffers_end(&live->buffers);
        wake(live);
}

void ckpt_live_save(struct ckpt_live *live, long index, uint64_t start, uint64_t end)
{
        struct live_mm *mm;
        long err;

        pthread_mutex_lock(&live->lock);
        mm = live->mms[index];
        err = judge(live, mm, live_save(live, mm, start, end, 0));
        if (err && !live->figures.error)
                live->figures.error = (int32_t)err;
        pthread_mutex_unlock(&live->lock);
        wake(live);
}

long ckpt_live_result(struct ckpt_live *live, struct ckpt_live_figures *figures)
{
        long written = buffers_written(&live->buffers), result = 0;

        pthread_mutex_lock(&live->lock);
        live->figures.peak_bytes = live->buffers.peak;
        *figures = live->figures;
        if (written < 0)
                result = written;
        else if (live->figures.lost_pid)
                result = -ENODATA;
        else if (live->figures.error)
                result = live->figures.error;
        else if (is_over(live) && written)
                result = 1;
        pthread_mutex_unlock(&live->lock);
        return result;
}

int ckpt_live_done(const struct ckpt_live *live)
{
        return live->over;
}
