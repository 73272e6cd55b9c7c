/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Pages asked of a page server: GET, answered by ADD_F and pages, in the order of the questions.
 * ckpt/images/pageserver/protocol.py has the messages.
 *
 * The other side is not trusted to say what was asked for: an answer is compared with its question
 * before a page of it is passed on. Pages are passed on as they come, in whole ones, out of one
 * buffer.
 */
#include "source.h"

#include <endian.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
        WIDE = 32,
        PAGE_BITS = 12,
        NR_QUESTIONS = 2048,
        IN_LEN = 512 << 10,
        OUT_LEN = 16 << 10,
};

enum command { ADD_F = 6, GET = 7, CLOSE = 0x1023 };

#define COMMAND_MASK 0xffffU
#define PRESENT      (4U << 16)
#define PAGE_LEN     (1UL << PAGE_BITS)

struct lazy_stream {
        int lfd;
        size_t header; /* length of a message */
        struct lazy_want questions[NR_QUESTIONS];
        uint64_t first, nr;
        uint64_t announced; /* pages of the answer to the first question that are still to come */
        unsigned char out[OUT_LEN];
        size_t out_len;
        unsigned char in[IN_LEN];
        size_t taken, in_len; /* what is left to look at stands between the two */
};

static uint64_t number(const unsigned char *at, size_t size)
{
        uint64_t value = 0;

        memcpy(&value, at, size);
        return le64toh(value);
}

static void put(unsigned char *at, uint64_t value, size_t size)
{
        value = htole64(value);
        memcpy(at, &value, size);
}

static void put_message(unsigned char *at, size_t header, uint32_t command,
                        const struct lazy_want *want)
{
        const size_t wide = header == WIDE;

        memset(at, 0, header);
        put(at, command, 4);
        put(at + (wide ? 8 : 4), want->nr_pages, wide ? 8 : 4);
        put(at + (wide ? 16 : 8), want->at, 8);
        put(at + (wide ? 24 : 16), want->image, 8);
}

/* Send what waits, as far as it goes. */
static long flush(struct lazy_stream *s)
{
        size_t sent = 0;

        while (sent < s->out_len) {
                ssize_t done = send(s->lfd, s->out + sent, s->out_len - sent, MSG_NOSIGNAL);

                if (done < 0 && errno == EINTR)
                        continue;
                if (done < 0 && errno != EAGAIN)
                        return errno == EPIPE ? -ECONNRESET : -errno;
                if (done < 0)
                        break;
                sent += (size_t)done;
        }
        s->out_len -= sent;
        memmove(s->out, s->out + sent, s->out_len);
        return 0;
}

long lazy_stream_open(int lfd, size_t header, struct lazy_stream **out)
{
        int flags = fcntl(lfd, F_GETFL);
        struct lazy_stream *s;

        if (flags < 0 || fcntl(lfd, F_SETFL, flags | O_NONBLOCK) < 0)
                return -errno;
        s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        s->lfd = lfd;
        s->header = header;
        *out = s;
        return 0;
}

long lazy_stream_ask(struct lazy_stream *s, const struct lazy_want *want)
{
        if (s->nr == NR_QUESTIONS || s->out_len + s->header > OUT_LEN)
                return -EAGAIN;
        put_message(s->out + s->out_len, s->header, GET, want);
        s->out_len += s->header;
        s->questions[(s->first + s->nr++) % NR_QUESTIONS] = *want;
        return flush(s);
}

/* One message, which must announce pages of the first question. 0: it is not whole yet. */
static long take_message(struct lazy_stream *s)
{
        const unsigned char *at = s->in + s->taken;
        const struct lazy_want *wanted = &s->questions[s->first];
        const size_t wide = s->header == WIDE;
        uint64_t nr_pages;

        if (s->in_len - s->taken < s->header)
                return 0;
        nr_pages = number(at + (wide ? 8 : 4), wide ? 8 : 4);
        if (!s->nr || number(at, 4) != (ADD_F | PRESENT) ||
            number(at + (wide ? 16 : 8), 8) != wanted->at ||
            number(at + (wide ? 24 : 16), 8) != wanted->image || nr_pages > wanted->nr_pages)
                return -EBADMSG;
        if (!nr_pages)
                return -ENODATA;
        s->taken += s->header;
        s->announced = nr_pages;
        return 1;
}

/* As many whole pages as there are of what was announced. */
static long take_pages(struct lazy_stream *s, struct lazy_got *got)
{
        struct lazy_want *wanted = &s->questions[s->first];
        uint64_t nr_pages = (s->in_len - s->taken) >> PAGE_BITS;

        if (nr_pages > s->announced)
                nr_pages = s->announced;
        if (!nr_pages)
                return 0;
        *got = (struct lazy_got){.image = wanted->image,
                                 .at = wanted->at,
                                 .nr_pages = nr_pages,
                                 .pages = s->in + s->taken};
        s->taken += nr_pages << PAGE_BITS;
        s->announced -= nr_pages;
        wanted->at += nr_pages << PAGE_BITS;
        wanted->nr_pages -= nr_pages;
        /* Fewer than were asked for: whoever has asked was told how many, and asks for the rest. */
        if (!wanted->nr_pages) {
                s->first = (s->first + 1) % NR_QUESTIONS;
                s->nr--;
        }
        return 1;
}

/* More bytes behind those that are left. 1, or 0 if there are none. */
static long receive(struct lazy_stream *s)
{
        ssize_t got;

        memmove(s->in, s->in + s->taken, s->in_len - s->taken);
        s->in_len -= s->taken;
        s->taken = 0;
        do
                got = recv(s->lfd, s->in + s->in_len, IN_LEN - s->in_len, 0);
        while (got < 0 && errno == EINTR);
        if (got < 0)
                return errno == EAGAIN ? 0 : -errno;
        if (!got)
                return -ECONNRESET;
        s->in_len += (size_t)got;
        return 1;
}

long lazy_stream_next(struct lazy_stream *s, struct lazy_got *got)
{
        long result = flush(s);

        while (!result) {
                if (s->announced)
                        result = take_pages(s, got);
                else if ((result = take_message(s)) == 1) {
                        result = 0;
                        continue;
                }
                if (!result) {
                        result = receive(s);
                        if (!result)
                                return 0;
                        result = result == 1 ? 0 : result;
                }
        }
        return result;
}

short lazy_stream_events(const struct lazy_stream *s)
{
        return (short)(POLLIN | (s->out_len ? POLLOUT : 0));
}

void lazy_stream_bye(struct lazy_stream *s)
{
        enum { PATIENCE_MS = 2000 };
        unsigned char message[WIDE];
        const struct lazy_want nothing = {0};
        struct pollfd end = {.fd = s->lfd, .events = POLLIN};
        ssize_t got = 1;

        put_message(message, s->header, CLOSE, &nothing);
        if (flush(s) || s->out_len || send(s->lfd, message, s->header, MSG_NOSIGNAL) < 0)
                return; /* the other side ends all the same, with a warning */
        shutdown(s->lfd, SHUT_WR);
        /* Answers that nobody needs any more may be on their way: closed before them, the
         * connection would be reset, and our leave lost. */
        while (got > 0 && poll(&end, 1, PATIENCE_MS) > 0)
                got = recv(s->lfd, s->in, IN_LEN, 0);
}

void lazy_stream_close(struct lazy_stream *s)
{
        free(s);
}
