/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include "uffd.h"

#include <poll.h>

#define PAGE        4096ULL
#define NR_MESSAGES 64

struct server {
        int uffd;
        int events;
        uint64_t run_max;
        struct ckpt_wp_served *served;
        uint64_t next; /* where the last run ended */
        uint64_t run;  /* its length in pages */
};

static long wake(int uffd, uint64_t start, uint64_t len)
{
        struct uffdio_range range = {.start = start, .len = len};

        return ioctl(uffd, UFFDIO_WAKE, &range) < 0 ? -errno : 0;
}

static long unprotect(int uffd, uint64_t start, uint64_t len)
{
        long err;

        do
                err = uffd_protect(uffd, start, len, 0);
        while (err == -EAGAIN);
        return err;
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
                err = unprotect(s->uffd, range->start, sizes[i]);
        }
        if (err != -ENOENT && err != -EINVAL)
                return err;
        *range = (struct ckpt_extent){addr, addr + PAGE};
        return wake(s->uffd, addr, PAGE);
}

static long serve(struct server *s, uint64_t addr, struct ckpt_extent *range)
{
        long err = -ENOENT;

        /* Another thread's fault on a page of the last run, or the page is protected again. */
        if (addr < s->next && addr >= s->next - s->run * PAGE) {
                *range = (struct ckpt_extent){addr, addr + PAGE};
                s->served->nr_faults++;
                s->served->nr_unprotected++;
                return unprotect_one(s, range);
        }
        s->run = addr == s->next && 2 * s->run <= s->run_max ? 2 * s->run : s->run;
        if (addr != s->next)
                s->run = 1;
        *range = (struct ckpt_extent){addr, addr + s->run * PAGE};
        if (s->run > 1)
                err = unprotect(s->uffd, addr, s->run * PAGE);
        if (err == -ENOENT || err == -EINVAL) {
                s->run = 1;
                err = unprotect_one(s, range);
        }
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

/* All messages that are there, at most NR_MESSAGES. */
static long serve_some(struct server *s)
{
        struct uffd_msg messages[NR_MESSAGES];
        struct ckpt_extent ranges[NR_MESSAGES];
        ssize_t got = read(s->uffd, messages, sizeof(messages));
        uint64_t nr = 0;
        long err = 0;

        if (got < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        for (ssize_t i = 0; !err && i < got / (ssize_t)sizeof(*messages); i++) {
                uint64_t addr = messages[i].arg.pagefault.address & ~(PAGE - 1);

                if (messages[i].event != UFFD_EVENT_PAGEFAULT)
                        continue;
                err = serve(s, addr, &ranges[nr++]);
        }
        tell(s, ranges, nr);
        return err;
}

long ckpt_serve_wp(int uffd, int stop, int events, uint64_t run_max, struct ckpt_wp_served *served)
{
        struct server s = {.uffd = uffd, .events = events, .run_max = run_max, .served = served};

        for (;;) {
                struct pollfd waits[2] = {{.fd = uffd, .events = POLLIN},
                                          {.fd = stop, .events = POLLIN}};
                long err;

                if (poll(waits, 2, -1) < 0 && errno != EINTR)
                        return -errno;
                if (waits[1].revents)
                        return 0;
                if (waits[0].revents & (POLLERR | POLLNVAL))
                        return -EBADF;
                err = serve_some(&s);
                if (err)
                        return err;
        }
}
