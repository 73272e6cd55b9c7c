/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include "notes.h"
#include "uffd.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define PAGE        4096ULL
#define NR_MESSAGES 64
#define RETRY_NS    50000

struct ckpt_wp_moves {
        pthread_mutex_t lock; /* from the reading of events until they are noted */
        struct notes notes;
};

struct server {
        int uffd;
        int events;
        uint64_t run_max;
        struct ckpt_wp_moves *moves;
        struct ckpt_wp_served *served;
        uint64_t next;     /* where the last run ended */
        uint64_t run;      /* its length in pages */
        uint64_t *put_off; /* faults to be served when the address space is not being changed */
        uint64_t nr_put_off;
        uint64_t room;
};

struct ckpt_wp_moves *ckpt_wp_moves_new(void)
{
        struct ckpt_wp_moves *moves = calloc(1, sizeof(*moves));

        if (moves)
                pthread_mutex_init(&moves->lock, NULL);
        return moves;
}

void ckpt_wp_moves_free(struct ckpt_wp_moves *moves)
{
        pthread_mutex_destroy(&moves->lock);
        free(moves);
}

long ckpt_wp_moved(struct ckpt_wp_moves *moves, struct ckpt_extent **out)
{
        long nr;

        pthread_mutex_lock(&moves->lock);
        nr = notes_take(&moves->notes, out);
        pthread_mutex_unlock(&moves->lock);
        return nr;
}

static long wake(int uffd, uint64_t start, uint64_t len)
{
        struct uffdio_range range = {.start = start, .len = len};

        return ioctl(uffd, UFFDIO_WAKE, &range) < 0 ? -errno : 0;
}

/* Where user space begins and ends is the kernel's to know. */
long ckpt_wake_all(int uffd)
{
        for (int high = 56; high > 30; high--)
                for (uint64_t start = 0; start < 1 << 20; start = start ? 2 * start : PAGE)
                        if (wake(uffd, start, (1ULL << high) - PAGE - start) != -EINVAL)
                                return 0;
        return -EINVAL;
}

/* One page, of whatever size it is there. A mapping that is gone, or not ours any more, has nothing
 * to unprotect: who waits looks again. */
static long unprotect_one(const struct server *s, struct ckpt_extent *range)
{
        static const uint64_t sizes[] = {PAGE, 1ULL << 21, 1ULL << 30};
        uint64_t addr = range->start;
        long err = -EINVAL;

        for (unsigned i = 0; err == -EINVAL && i < 3; i++) {
                range->start = addr & ~(sizes[i] - 1);
                range->end = range->start + sizes[i];
                err = uffd_protect(s->uffd, range->start, sizes[i], 0);
        }
        if (err != -ENOENT && err != -EINVAL)
                return err;
        *range = (struct ckpt_extent){addr, addr + PAGE};
        return wake(s->uffd, addr, PAGE);
}

/* -EAGAIN: the address space is being changed, by a thread that waits until its event is read. */
static long serve(struct server *s, uint64_t addr, struct ckpt_extent *range)
{
        long err = -ENOENT;

        /* Another thread's fault on a page of the last run, or the page is protected again. */
        if (addr < s->next && addr >= s->next - s->run * PAGE) {
                *range = (struct ckpt_extent){addr, addr + PAGE};
                err = unprotect_one(s, range);
                s->served->nr_faults += err != -EAGAIN;
                s->served->nr_unprotected += err != -EAGAIN;
                return err;
        }
        s->run = addr == s->next && 2 * s->run <= s->run_max ? 2 * s->run : s->run;
        if (addr != s->next)
                s->run = 1;
        *range = (struct ckpt_extent){addr, addr + s->run * PAGE};
        if (s->run > 1)
                err = uffd_protect(s->uffd, addr, s->run * PAGE, 0);
        if (err == -ENOENT || err == -EINVAL) {
                s->run = 1;
                err = unprotect_one(s, range);
        }
        if (err == -EAGAIN)
                return err;
        s->next = range->end;
        s->served->nr_faults++;
        s->served->nr_unprotected += (range->end - range->start) / PAGE;
        return err;
}

static void tell(struct server *s, const struct ckpt_extent *ranges, uint64_t nr)
{
        ssize_t done;

        if (s->events < 0 || !nr)
                return;
        do
                done = write(s->events, ranges, nr * sizeof(*ranges));
        while (done < 0 && errno == EINTR);
        s->served->nr_lost += nr - (done > 0 ? (uint64_t)done / sizeof(*ranges) : 0);
        if (done < 0 && errno != EAGAIN)
                s->events = -1;
}

/* -EAGAIN is not to be waited for: the event that it is about is ours to read. */
static long put_off(struct server *s, uint64_t addr)
{
        if (s->nr_put_off == s->room) {
                uint64_t room = s->room ? 2 * s->room : NR_MESSAGES;
                uint64_t *more = realloc(s->put_off, room * sizeof(*more));

                if (!more)
                        return -ENOMEM;
                s->put_off = more;
                s->room = room;
        }
        s->put_off[s->nr_put_off++] = addr;
        return 0;
}

static long serve_or_put_off(struct server *s, uint64_t addr)
{
        struct ckpt_extent range;
        long err = serve(s, addr, &range);

        if (err == -EAGAIN)
                return put_off(s, addr);
        if (!err)
                tell(s, &range, 1);
        return err;
}

static long serve_put_off(struct server *s)
{
        uint64_t nr = s->nr_put_off;
        long err = 0;

        s->nr_put_off = 0;
        /* Whatever is put off again is so at a place that was looked at already. */
        for (uint64_t i = 0; !err && i < nr; i++)
                err = serve_or_put_off(s, s->put_off[i]);
        return err;
}

static long handle(struct server *s, const struct uffd_msg *message)
{
        switch (message->event) {
        case UFFD_EVENT_PAGEFAULT:
                return serve_or_put_off(s, message->arg.pagefault.address & ~(PAGE - 1));
        case UFFD_EVENT_REMAP:
                notes_add(&s->moves->notes, message->arg.remap.to,
                          message->arg.remap.to + message->arg.remap.len);
                return 0;
        default:
                return 0; /* whoever gives memory back goes on, now that it is read */
        }
}

/* All messages that are there, at most NR_MESSAGES. */
static long serve_some(struct server *s)
{
        struct uffd_msg messages[NR_MESSAGES];
        ssize_t got;
        long err = 0;

        pthread_mutex_lock(&s->moves->lock);
        got = read(s->uffd, messages, sizeof(messages));
        if (got < 0 && errno != EAGAIN && errno != EINTR)
                err = -errno;
        for (ssize_t i = 0; !err && i < got / (ssize_t)sizeof(*messages); i++)
                err = handle(s, &messages[i]);
        pthread_mutex_unlock(&s->moves->lock);
        return err ? err : serve_put_off(s);
}

static long serve_until(struct server *s, int stop)
{
        const struct timespec retry = {.tv_nsec = RETRY_NS};

        for (;;) {
                struct pollfd waits[2] = {{.fd = s->uffd, .events = POLLIN},
                                          {.fd = stop, .events = POLLIN}};
                long err;

                if (ppoll(waits, 2, s->nr_put_off ? &retry : NULL, NULL) < 0 && errno != EINTR)
                        return -errno;
                if (waits[1].revents)
                        return 0;
                if (waits[0].revents & (POLLERR | POLLNVAL))
                        return -EBADF;
                err = serve_some(s);
                if (err)
                        return err;
        }
}

long ckpt_serve_wp(int uffd, int stop, int events, uint64_t run_max, struct ckpt_wp_moves *moves,
                   struct ckpt_wp_served *served)
{
        struct server s = {
            .uffd = uffd, .events = events, .run_max = run_max, .moves = moves, .served = served};
        long err = serve_until(&s, stop);

        /* What was read is not told again: who waits looks again, whoever serves then. */
        for (uint64_t i = 0; i < s.nr_put_off; i++)
                wake(uffd, s.put_off[i], PAGE);
        free(s.put_off);
        return err;
}
