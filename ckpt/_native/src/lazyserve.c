/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include "lazyfill.h"
#include "lazyshare.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>

enum {
        NEAR_MIN = 16,  /* pages: 64 KiB */
        NEAR_MAX = 512, /* 2 MiB */
        AT_ONCE = 32,   /* 128 KiB: how long a fault may wait for what is under way */
        NAP_MS = 1000,
        BUSY_MS = 1,
        HELD_MS = 10,
        POOR_S = 60,
        NR_FAULTS = 16,
};

static time_t now_s(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec;
}

long lazy_lost(struct server *s, uint64_t space, const struct lazy_piece *piece, long err)
{
        s->told->error_space = (int32_t)space;
        s->told->error_source = piece->source;
        s->told->error_at = piece->at;
        return err;
}

/* A control group has its limit, and others may give some back. */
long lazy_patient(struct server *s, long err)
{
        if (err != -ENOMEM) {
                s->poor = 0;
                return err;
        }
        if (!s->poor)
                s->poor = now_s();
        return now_s() - s->poor > POOR_S ? err : 0;
}

long lazy_put(struct server *s, uint64_t space, const struct lazy_piece *piece, const void *pages,
              uint64_t *done)
{
        struct lazy_space *to = space_at(s, space);
        struct lazy_filled filled = {0};
        long got = lazy_fill(to->uffd, to->base + piece->addr, pages, piece->nr_pages,
                             to->flags & CKPT_LAZY_TRACKED, &filled);

        *done = got > 0 ? (uint64_t)got : 0;
        if (got == -ESRCH) {
                /* The process has ended, or called exec. */
                s->told->nr_gone += lazy_space_drop(to, 0, ~0ULL);
                *done = piece->nr_pages;
                return 0;
        }
        got = lazy_patient(s, got);
        if (got < 0)
                return lazy_lost(s, space, piece, got);
        if (to->flags & CKPT_LAZY_OBJECT && filled.gone)
                return lazy_lost(s, space, piece, -ENOTRECOVERABLE); /* it is our own mapping */
        if (to->flags & CKPT_LAZY_OBJECT)
                lazy_share_wake(s, space, piece->addr, piece->addr + *done * LAZY_PAGE);
        lazy_space_drop(to, piece->addr, piece->addr + *done * LAZY_PAGE);
        s->told->nr_copied += filled.copied;
        s->told->nr_there += filled.there;
        s->told->nr_gone += filled.gone;
        return 0;
}

/* As much of the piece as is in one block of its file, which is looked at as a whole. */
static struct lazy_piece within_block(const struct ckpt_lazy_source *source,
                                      const struct lazy_piece *piece)
{
        struct lazy_piece part = *piece;

        if (source->sums && source->block) {
                uint64_t left = (source->block - piece->at % source->block) / LAZY_PAGE;

                if (part.nr_pages > left)
                        part.nr_pages = left;
        }
        return part;
}

/* Bring a piece, or its first part: at once from a file. *done: whether it made anything happen. */
static long bring(struct server *s, uint64_t space, const struct lazy_piece *whole, int urgent,
                  uint64_t *done)
{
        const struct ckpt_lazy_source *source = &s->job->sources[whole->source];
        const struct lazy_piece part = within_block(source, whole), *piece = &part;
        const void *pages;
        long got, err;

        *done = 0;
        if (source->kind == CKPT_LAZY_STREAM) {
                err = lazy_ask(s, space, piece, urgent);
                *done = err ? 0 : piece->nr_pages;
                return err == -EAGAIN ? 0 : err;
        }
        got = lazy_file_pages(source, &s->files[piece->source], piece->at,
                              piece->nr_pages * LAZY_PAGE, urgent, &pages);
        if (got == 0) {
                s->begun = (struct asked){.space = space, .piece = *piece};
                *done = 1;
        }
        if (got <= 0)
                return got ? lazy_lost(s, space, piece, got) : 0;
        return lazy_put(s, space, piece, pages, done);
}

/* ---- faults */

static void record(struct server *s, const struct lazy_piece *piece, uint64_t nr_pages)
{
        if (s->told->nr_records == s->job->nr_records_max)
                return;
        s->job->records[s->told->nr_records] =
            (struct ckpt_lazy_run){.start = piece->addr,
                                   .end = piece->addr + nr_pages * LAZY_PAGE,
                                   .source = piece->source,
                                   .at = piece->at};
        __atomic_add_fetch(&s->told->nr_records, 1, __ATOMIC_SEQ_CST);
}

/* What comes next around a fault at `addr`: more each time that faults go on where the last
 * neighbours ended. */
static void widen(struct server *s, uint64_t space, uint64_t addr)
{
        struct lazy_space *of = space_at(s, space);
        int on = of->near_end && addr >= of->near_end && addr - of->near_end < 2 * LAZY_PAGE;

        of->grow = on ? 2 * of->grow : NEAR_MIN;
        if (of->grow > NEAR_MAX)
                of->grow = NEAR_MAX;
        of->near = on ? addr : addr & ~(NEAR_MIN * LAZY_PAGE - 1);
        of->near_end = of->near + of->grow * LAZY_PAGE;
        s->near = space;
}

/* A page that the images don't have: zeros, as it was. */
static long fill_hole(struct server *s, uint64_t space, uint64_t addr, int writes)
{
        static const char zeros[LAZY_PAGE];
        struct lazy_space *of = space_at(s, space);
        struct lazy_filled filled = {0};
        long got = lazy_fill(of->uffd, addr, writes ? zeros : NULL, 1, 0, &filled);

        s->told->nr_holes++;
        got = lazy_patient(s, got);
        if (got == 0)
                lazy_wake(of->uffd, addr);
        if (got == -ESRCH) {
                s->told->nr_gone += lazy_space_drop(of, 0, ~0ULL);
                return 0;
        }
        return got < 0 ? lazy_lost(s, space, &(struct lazy_piece){.addr = addr}, got) : 0;
}

long lazy_fetch(struct server *s, uint64_t space, uint64_t addr, uint64_t *done)
{
        struct lazy_space *of = space_at(s, space);
        struct lazy_piece piece;

        s->told->nr_faults++;
        widen(s, space, addr);
        lazy_space_next(of, addr, addr + LAZY_PAGE, 1, 1, &piece);
        record(s, &piece, (of->near_end - addr) / LAZY_PAGE);
        *done = 1;
        if (!lazy_space_next(of, addr, addr + LAZY_PAGE, 1, 0, &piece))
                return 0; /* it was asked for: the answer wakes */
        return bring(s, space, &piece, 1, done);
}

static long serve_fault(struct server *s, uint64_t space, const struct uffd_msg *message)
{
        struct lazy_space *of = space_at(s, space);
        uint64_t addr = message->arg.pagefault.address & ~(LAZY_PAGE - 1), done;
        uint64_t flags = message->arg.pagefault.flags;
        long err;

        if (flags & UFFD_PAGEFAULT_FLAG_WP)
                return lazy_unprotect(of->uffd, addr);
        if (!lazy_space_has(of, addr))
                return fill_hole(s, space, addr, flags & UFFD_PAGEFAULT_FLAG_WRITE);
        err = lazy_fetch(s, space, addr, &done);
        if (!err && !done)
                lazy_wake(of->uffd, addr); /* it faults again, after the events */
        return err;
}

/* A page of a young child that is missing for all that is known comes at once. What may be a hole,
 * or may have been moved, waits, and so does every event. */
static long serve_young(struct server *s, uint64_t space)
{
        struct lazy_space *of = space_at(s, space);
        struct uffd_msg fault;
        long got;

        if (!lazy_nr_faults(of->uffd) || !lazy_quiet(of->uffd)) {
                of->mute = 1;
                return 0;
        }
        got = lazy_state_read(&s->state, space, &fault);
        if (got < 0)
                return lazy_lost(s, space, &(struct lazy_piece){0}, got);
        of = space_at(s, space);
        if (!got || !lazy_space_has(of, fault.arg.pagefault.address & ~(LAZY_PAGE - 1)))
                return 0;
        return serve_fault(s, space, &fault);
}

static long serve_space(struct server *s, uint64_t space)
{
        struct uffd_msg fault;
        long got = 1, err = 0;

        for (int n = 0; !err && got > 0 && n < NR_FAULTS; n++) {
                got = lazy_state_read(&s->state, space, &fault);
                if (got < 0)
                        return lazy_lost(s, space, &(struct lazy_piece){0}, got);
                if (got > 0)
                        err = serve_fault(s, space, &fault);
        }
        return err;
}

/* ---- what nobody waits for yet */

static int bring_near(struct server *s, struct lazy_piece *piece, uint64_t *space)
{
        struct lazy_space *of;

        if (s->near >= s->state.nr_spaces)
                return 0;
        of = space_at(s, s->near);
        *space = s->near;
        if (of->near < of->near_end &&
            lazy_space_next(of, of->near, of->near_end, AT_ONCE, 0, piece)) {
                of->near = piece->addr + piece->nr_pages * LAZY_PAGE;
                return 1;
        }
        of->near = of->near_end;
        return 0;
}

/* What has begun is gone on with, as far as it is still missing. */
static int bring_begun(struct server *s, struct lazy_piece *piece, uint64_t *space)
{
        const struct lazy_piece begun = s->begun.piece;

        *space = s->begun.space;
        s->begun.piece.nr_pages = 0;
        return begun.nr_pages &&
               lazy_space_next(space_at(s, *space), begun.addr,
                               begun.addr + begun.nr_pages * LAZY_PAGE, begun.nr_pages, 0, piece);
}

/* What was waited for the last time: first those pages alone, then what was brought along with
 * each. What is only a guess, all at once. */
static int bring_first(struct server *s, uint64_t most, struct lazy_piece *piece, uint64_t *space)
{
        const uint64_t nr = s->job->nr_first;

        for (; s->first < 2 * nr; s->first++) {
                const struct ckpt_lazy_first *first = &s->job->first[s->first % nr];
                uint64_t end = first->end;

                if (s->first >= s->job->nr_soon && s->first < nr)
                        end = first->start + LAZY_PAGE;
                *space = first->space;
                if (first->space < s->state.nr_spaces &&
                    lazy_space_next(space_at(s, first->space), first->start, end, most, 0, piece))
                        return 1;
        }
        return 0;
}

static int bring_rest(struct server *s, uint64_t most, struct lazy_piece *piece, uint64_t *space)
{
        for (uint64_t n = 0; n < s->state.nr_spaces; n++, s->sweep++) {
                *space = s->sweep % s->state.nr_spaces;
                if (space_at(s, *space)->nr_left &&
                    !(space_at(s, *space)->flags & (CKPT_LAZY_SHARES | CKPT_LAZY_YOUNG)) &&
                    lazy_space_sweep(space_at(s, *space), most, piece))
                        return 1;
        }
        return 0;
}

/* One piece; *nap_ms: how long to wait for what happens meanwhile. A target that changes its
 * mappings takes no pages until it has been scheduled after its event was read. */
static long step(struct server *s, int *nap_ms)
{
        struct lazy_piece piece;
        uint64_t space, done, most = lazy_room(s);
        long err;

        *nap_ms = NAP_MS;
        if (s->hurry && most &&
            (bring_begun(s, &piece, &space) || lazy_share_next(s, most, &piece, &space))) {
                *nap_ms = 0;
        } else if (ckpt_fault_held()) {
                *nap_ms = HELD_MS;
                if (s->first < s->job->nr_soon)
                        s->first = s->job->nr_soon;
                if (!most || !bring_first(s, most, &piece, &space))
                        return 0;
        } else if (!bring_near(s, &piece, &space) && !bring_begun(s, &piece, &space) &&
                   (!most || (!bring_first(s, most, &piece, &space) &&
                              !bring_rest(s, most, &piece, &space)))) {
                return 0;
        }
        err = bring(s, space, &piece, 0, &done);
        *nap_ms = done ? 0 : BUSY_MS;
        return err;
}

/* ---- the loop */

static long prepare_polls(struct server *s, uint64_t *nr)
{
        uint64_t wanted = s->state.nr_spaces + s->job->nr_sources;

        if (s->room < wanted) {
                free(s->polls);
                s->polls = malloc(2 * wanted * sizeof(*s->polls));
                s->room = s->polls ? 2 * wanted : 0;
                if (!s->polls)
                        return -ENOMEM;
        }
        *nr = wanted;
        for (uint64_t i = 0; i < s->state.nr_spaces; i++) {
                const struct lazy_space *space = space_at(s, i);
                /* Of a hurry it is known that there are events, which must wait. */
                int quiet = space->flags & CKPT_LAZY_OBJECT || space->mute ||
                            (s->hurry && space->flags & CKPT_LAZY_SHARES);

                s->polls[i] = (struct pollfd){.fd = quiet ? -1 : space->uffd, .events = POLLIN};
        }
        for (uint64_t i = 0; i < s->job->nr_sources; i++) {
                int lfd = lazy_is_first(s, i) ? s->job->sources[i].lfd : -1;

                s->polls[s->state.nr_spaces + i] = (struct pollfd){
                    .fd = lfd, .events = lfd < 0 ? 0 : lazy_stream_events(s->streams[i])};
        }
        return 0;
}

/* Everything that has come: first what the targets say, then answers. */
static long serve_ready(struct server *s, uint64_t nr_spaces)
{
        long err = 0;

        for (uint64_t i = 0; !err && i < nr_spaces; i++) {
                int ready = s->polls[i].fd >= 0 && s->polls[i].revents & POLLIN;

                if (space_at(s, i)->flags & CKPT_LAZY_SHARES) {
                        if (ready)
                                err = lazy_share_serve(s, i);
                } else if (ready && space_at(s, i)->flags & CKPT_LAZY_YOUNG) {
                        err = serve_young(s, i);
                } else if (ready) {
                        err = serve_space(s, i);
                }
        }
        for (uint64_t i = 0; !err && i < s->job->nr_sources; i++)
                if (s->polls[nr_spaces + i].fd >= 0 && s->polls[nr_spaces + i].revents)
                        err = lazy_answers(s, i);
        return err;
}

/* Let go of those of whom nothing is missing, but for those that the holder will have tracked. */
static void let_go(struct server *s)
{
        int alone = getppid() != s->holder;

        for (uint64_t i = 0; i < s->state.nr_spaces; i++) {
                const struct lazy_space *space = space_at(s, i);

                if (space->uffd >= 0 && !space->nr_left &&
                    !(space->flags & (CKPT_LAZY_OBJECT | CKPT_LAZY_SHARES | CKPT_LAZY_YOUNG)) &&
                    !lazy_state_restless(&s->state, i) &&
                    (alone || space->flags & CKPT_LAZY_BORN || !(space->flags & CKPT_LAZY_TRACKED)))
                        lazy_state_close(&s->state, i);
        }
}

/* Whether somebody must go on being answered until the holder, if there is one, has taken it over.
 */
static int tracks(struct server *s)
{
        if (getppid() != s->holder)
                return 0;
        for (uint64_t i = 0; i < s->state.nr_spaces; i++)
                if (space_at(s, i)->uffd >= 0 && space_at(s, i)->flags & CKPT_LAZY_TRACKED)
                        return 1;
        return 0;
}

static long loop(struct server *s)
{
        uint64_t nr, nr_spaces;
        int nap_ms = 0;

        for (;;) {
                long err = prepare_polls(s, &nr);

                nr_spaces = s->state.nr_spaces;
                if (s->hurry && nap_ms > BUSY_MS)
                        nap_ms = BUSY_MS;
                if (!err && poll(s->polls, nr, nap_ms) < 0 && errno != EINTR)
                        err = -errno;
                if (!err)
                        err = serve_ready(s, nr_spaces);
                if (!err)
                        err = step(s, &nap_ms);
                if (!err)
                        err = lazy_share_settle(s);
                if (err)
                        return err;
                if (lazy_settle_down(s) && nap_ms > BUSY_MS)
                        nap_ms = BUSY_MS;
                let_go(s);
                s->told->nr_left = lazy_state_left(&s->state);
                s->told->nr_spaces = s->state.nr_spaces;
                if (s->told->stop || (!s->told->nr_left && !tracks(s)))
                        return 0;
                err = lazy_silence(s);
                if (err)
                        return err;
        }
}

/* Stop everybody whose pages will not come. Where the holder is gone we are the last who has the
 * userfaultfds: stay until they have ended. */
static void give_up(struct server *s)
{
        struct pollfd wait = {.fd = -1, .events = POLLIN};

        for (uint64_t i = 0; i < s->state.nr_spaces; i++)
                if (space_at(s, i)->pidfd >= 0)
                        syscall(__NR_pidfd_send_signal, space_at(s, i)->pidfd, SIGSTOP, NULL, 0);
        for (uint64_t i = 0; getppid() != s->holder && i < s->state.nr_spaces; i++) {
                wait.fd = space_at(s, i)->pidfd;
                while (wait.fd >= 0 && poll(&wait, 1, -1) < 0 && errno == EINTR)
                        ;
        }
}

long ckpt_lazy_serve(const struct ckpt_lazy_job *job)
{
        static struct server s;
        long err;

        s = (struct server){.job = job, .told = job->told, .holder = getppid()};
        err = lazy_state_load(&s.state, job);
        if (!err)
                err = lazy_sources_open(&s);
        if (!err)
                err = lazy_share_open(&s);
        for (uint64_t i = 0; !err && i < s.state.nr_spaces; i++)
                if (space_at(&s, i)->uffd >= 0)
                        lazy_wake_all(space_at(&s, i)->uffd);
        if (!err)
                err = loop(&s);
        if (err) {
                give_up(&s);
                s.told->error = -err;
                return err;
        }
        for (uint64_t i = 0; i < job->nr_sources; i++)
                if (lazy_is_first(&s, i))
                        lazy_stream_bye(s.streams[i]);
        return 0;
}
