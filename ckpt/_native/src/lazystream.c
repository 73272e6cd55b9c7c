/* SPDX-License-Identifier: GPL-2.0-only */
#include "lazyserver.h"

#include "lazyfill.h"

#include <stdlib.h>
#include <sys/stat.h>

/* Answers come in the order of the questions, so what nobody waits for yet is in the way of what
 * somebody does. How many pages are asked for ahead: as many as keep the stream busy for the length
 * of a round trip, and a few. Each fault cuts that down, each answer lets it grow again. */
enum {
        SILENCE_S = 60,
        WINDOW_MIN = 16,
        WINDOW_FEW = 64,
        WINDOW_MAX = 2048,
        ASK_MAX = 32,
        PAGE_NS = 2500, /* of a stream of 1.5 GiB/s */
};

static uint64_t now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static time_t now_s(void)
{
        return (time_t)(now_ns() / 1000000000);
}

static uint64_t window_max(const struct server *s)
{
        uint64_t most = WINDOW_FEW + s->trip_ns / PAGE_NS;

        return most < WINDOW_MAX ? most : WINDOW_MAX;
}

uint64_t lazy_room(const struct server *s)
{
        uint64_t room = s->window > WINDOW_MIN ? s->window : WINDOW_MIN;

        if (!s->asks)
                return ASK_MAX;
        if (s->nr_urgent || s->pages_asked >= room)
                return 0;
        return room / 2 < ASK_MAX ? room / 2 : ASK_MAX;
}

/* A question has its whole answer. */
static void answered(struct server *s, const struct asked *question)
{
        uint64_t trip_ns = now_ns() - question->since_ns;

        if (!s->trip_ns || trip_ns < s->trip_ns)
                s->trip_ns = trip_ns;
        if (question->urgent)
                s->nr_urgent--;
        else if (s->window < window_max(s))
                s->window += question->piece.nr_pages;
}

int lazy_is_first(const struct server *s, uint64_t source)
{
        for (uint64_t i = 0; i < source; i++)
                if (s->streams[i] == s->streams[source])
                        return 0;
        return s->streams[source] != NULL;
}

/* Descriptors that were passed one by one have numbers of their own. */
static int same_socket(int one, int other)
{
        struct stat a, b;

        return fstat(one, &a) == 0 && fstat(other, &b) == 0 && a.st_dev == b.st_dev &&
               a.st_ino == b.st_ino;
}

long lazy_sources_open(struct server *s)
{
        const struct ckpt_lazy_source *sources = s->job->sources;
        long err = 0;

        s->files = calloc(s->job->nr_sources + 1, sizeof(*s->files));
        s->streams = calloc(s->job->nr_sources + 1, sizeof(struct lazy_stream *));
        if (!s->files || !s->streams)
                return -ENOMEM;
        for (uint64_t i = 0; !err && i < s->job->nr_sources; i++) {
                for (uint64_t n = 0; sources[i].kind == CKPT_LAZY_STREAM && n < i; n++)
                        if (s->streams[n] && same_socket(sources[n].lfd, sources[i].lfd))
                                s->streams[i] = s->streams[n];
                s->asks |= sources[i].kind == CKPT_LAZY_STREAM;
                if (sources[i].kind == CKPT_LAZY_FILE)
                        err = lazy_file_open(&sources[i], &s->files[i]);
                else if (!s->streams[i])
                        err = lazy_stream_open(sources[i].lfd, sources[i].size, &s->streams[i]);
                if (err)
                        s->told->error_source = i;
        }
        return err;
}

long lazy_ask(struct server *s, uint64_t space, const struct lazy_piece *piece, int urgent)
{
        const struct ckpt_lazy_source *source = &s->job->sources[piece->source];
        struct lazy_want want = {
            .image = source->image, .at = piece->at, .nr_pages = piece->nr_pages, .urgent = urgent};
        long err;

        if (s->nr_asked == LAZY_NR_ASKED)
                return -EAGAIN;
        err = lazy_stream_ask(s->streams[piece->source], &want);
        if (err == -EAGAIN)
                return err;
        if (err)
                return lazy_lost(s, space, piece, err);
        if (!s->nr_asked)
                s->heard = now_s();
        s->asked[(s->first_asked + s->nr_asked++) % LAZY_NR_ASKED] =
            (struct asked){.space = space, .piece = *piece, .since_ns = now_ns(), .urgent = urgent};
        s->pages_asked += piece->nr_pages;
        if (urgent) {
                s->nr_urgent++;
                s->window = WINDOW_MIN;
        }
        lazy_space_ask(space_at(s, space), piece->addr, piece->addr + piece->nr_pages * LAZY_PAGE,
                       1);
        return 0;
}

/* An answer belongs to the first question; what has moved meanwhile is asked for again. */
static long take(struct server *s, const struct lazy_got *got)
{
        struct asked *first = &s->asked[s->first_asked];
        struct lazy_piece piece = first->piece;
        uint64_t space = first->space, nr = got->nr_pages, done = 0, fits;
        struct lazy_space *to = space_at(s, space);

        if (!s->nr_asked || got->image != s->job->sources[piece.source].image ||
            got->at != piece.at || !nr || nr > piece.nr_pages)
                return lazy_lost(s, space, &piece, -EBADMSG);
        s->heard = now_s();
        s->pages_asked -= nr;
        lazy_space_ask(to, piece.addr, piece.addr + nr * LAZY_PAGE, 0);
        if (nr == piece.nr_pages) {
                answered(s, first);
                s->first_asked = (s->first_asked + 1) % LAZY_NR_ASKED;
                s->nr_asked--;
        } else {
                first->piece.addr += nr * LAZY_PAGE;
                first->piece.at += nr * LAZY_PAGE;
                first->piece.nr_pages -= nr;
        }
        while (done < nr) {
                struct lazy_piece part = piece;
                uint64_t filled;
                long err;

                part.addr += done * LAZY_PAGE;
                part.at += done * LAZY_PAGE;
                fits = lazy_space_matches(to, part.addr, nr - done, part.source, part.at);
                part.nr_pages = fits;
                if (!fits) {
                        done++;
                        continue;
                }
                err = lazy_put(s, space, &part,
                               got->pages ? (const char *)got->pages + done * LAZY_PAGE : NULL,
                               &filled);
                if (err)
                        return err;
                if (!filled)
                        break; /* events first: asked for again */
                done += filled;
        }
        if (done < nr && to->uffd >= 0)
                lazy_wake_all(to->uffd);
        return 0;
}

long lazy_answers(struct server *s, uint64_t source)
{
        struct lazy_got got;
        long err;

        while ((err = lazy_stream_next(s->streams[source], &got)) > 0) {
                err = take(s, &got);
                if (err)
                        return err;
        }
        return err ? lazy_lost(s, 0, &(struct lazy_piece){.source = source}, err) : 0;
}

long lazy_silence(struct server *s)
{
        struct asked *first = &s->asked[s->first_asked];

        if (!s->nr_asked || now_s() - s->heard <= SILENCE_S)
                return 0;
        return lazy_lost(s, first->space, &first->piece, -ETIMEDOUT);
}
