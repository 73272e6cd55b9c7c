/* SPDX-License-Identifier: GPL-2.0-only
 *
 * A server of missing pages at work: what its loop (lazyserve.c) and its sources (lazystream.c)
 * know of one another. Not for cffi.
 */
#ifndef CKPT_LAZYSERVER_H
#define CKPT_LAZYSERVER_H

#include "lazystate.h"
#include "source.h"

#include <time.h>

enum { LAZY_NR_ASKED = 4096 };

/* A question to a stream that is not answered yet. */
struct asked {
        uint64_t space;
        struct lazy_piece piece;
        uint64_t since_ns;
        int urgent;
};

enum { LAZY_NR_WAITING = 1024 };

/* Somebody who needs a page of an object: the mappings, the address there. */
struct waiting {
        uint64_t space;
        uint64_t addr;
        uint64_t object;
        uint64_t at;
};

struct server {
        const struct ckpt_lazy_job *job;
        struct ckpt_lazy_told *told;
        pid_t holder;
        struct lazy_state state;
        struct lazy_file *files;
        struct lazy_stream **streams; /* by source; sources of one socket have the same */
        struct asked asked[LAZY_NR_ASKED];
        uint64_t nr_asked, first_asked, pages_asked;
        int asks;           /* whether there are streams */
        uint64_t nr_urgent; /* questions for which somebody waits */
        uint64_t window;    /* pages that may be asked for beside those, see lazystream.c */
        uint64_t trip_ns;   /* the shortest that an answer has taken, or 0 */
        time_t heard;       /* when the last answer came */
        time_t restless;    /* since when somebody waits to be seen quiet, or 0 */
        time_t poor;        /* since when there is no memory to be had, or 0 */
        uint64_t near;      /* space of the last fault */
        uint64_t sweep;
        uint64_t first;
        struct waiting waiting[LAZY_NR_WAITING];
        uint64_t nr_waiting;
        int hurry;          /* shared memory first, all of it */
        struct asked begun; /* what was to be brought, and is still being verified */
        struct pollfd *polls;
        uint64_t room;
};

static inline struct lazy_space *space_at(struct server *s, uint64_t space)
{
        return &s->state.spaces[space];
}

/* The source can't give what is asked for, or the target not take it: note which; returns `err`. */
long lazy_lost(struct server *s, uint64_t space, const struct lazy_piece *piece, long err);

/* Put pages into their places. *done: how many are dealt with. */
long lazy_put(struct server *s, uint64_t space, const struct lazy_piece *piece, const void *pages,
              uint64_t *done);

/* Somebody needs the page at `addr`, which is missing: bring it, and what is around it next. *done:
 * 0 where nothing could be done now. */
long lazy_fetch(struct server *s, uint64_t space, uint64_t addr, uint64_t *done);

/* `err`, or 0 where that is -ENOMEM and may pass. */
long lazy_patient(struct server *s, long err);

/* Look who is quiet (lazyorder.h): whether somebody still is not. Nothing of what was begun ten
 * seconds ago can be untold yet. */
int lazy_settle_down(struct server *s);

/* Map files, speak on sockets: 0 or -errno. */
long lazy_sources_open(struct server *s);

/* For how many pages at once what nobody waits for yet may be brought, or 0: not now. */
uint64_t lazy_room(const struct server *s);

/* Whether no earlier source has the stream of `source`, which has one. */
int lazy_is_first(const struct server *s, uint64_t source);

/* Ask a stream for a piece: 0, -EAGAIN, or -errno. */
long lazy_ask(struct server *s, uint64_t space, const struct lazy_piece *piece, int urgent);

/* Put what the stream of `source` has answered into its places. */
long lazy_answers(struct server *s, uint64_t source);

/* -ETIMEDOUT where an answer is waited for and none has come for long. */
long lazy_silence(struct server *s);

#endif
