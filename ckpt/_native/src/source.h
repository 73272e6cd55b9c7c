/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Where missing pages come from. Not for cffi.
 *
 * A file answers at once, by a mapping: the kernel copies from it straight into the target, and
 * says EFAULT where the file has been cut short. A stream is asked, and answers later, in the order
 * of the questions.
 */
#ifndef CKPT_SOURCE_H
#define CKPT_SOURCE_H

#include "native.h"

struct lazy_file {
        const char *map;
        uint8_t *good; /* blocks whose sum was found right */
};

/* Map source `source`; 0 or -errno. */
long lazy_file_open(const struct ckpt_lazy_source *source, struct lazy_file *file);

/* `len` bytes at `at`, verified, which stay until the next call: 1. What is not `urgent` is
 * verified bit by bit: 0 where there is more to do, and the same should be asked for again. -ERANGE
 * beyond the end, -EUCLEAN where the sum is another, -EFAULT where the file is shorter than it was.
 */
long lazy_file_pages(const struct ckpt_lazy_source *source, struct lazy_file *file, uint64_t at,
                     uint64_t len, int urgent, const void **pages);

/* Pages of `image` from the address `at` on, as it was at the dump. */
struct lazy_want {
        uint64_t image;
        uint64_t at;
        uint64_t nr_pages;
        int urgent; /* somebody waits for it */
};

/* `pages` is NULL for zeros. */
struct lazy_got {
        uint64_t image;
        uint64_t at;
        uint64_t nr_pages;
        const void *pages;
};

struct lazy_stream;

/* Make `lfd` non-blocking and speak on it, in messages of `header` bytes (24 or 32). */
long lazy_stream_open(int lfd, size_t header, struct lazy_stream **out);

/* 0; -EAGAIN where so much is asked that more must wait for answers; else the source is lost. */
long lazy_stream_ask(struct lazy_stream *stream, const struct lazy_want *want);

/* 1: *got is an answer, valid until the next call. 0: there is none yet. Anything but what was
 * asked for is -EBADMSG; the end of the stream -ECONNRESET. */
long lazy_stream_next(struct lazy_stream *stream, struct lazy_got *got);

/* What to poll(2) for. */
short lazy_stream_events(const struct lazy_stream *stream);

/* Everything has come: say so, as far as that can be said at once. */
void lazy_stream_bye(struct lazy_stream *stream);

void lazy_stream_close(struct lazy_stream *stream);

#endif
