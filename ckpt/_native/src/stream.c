/* SPDX-License-Identifier: GPL-2.0-only */
#include "source.h"

/* Pages over the network are not there yet: nobody can ask for one. */
long lazy_stream_open(int lfd, struct lazy_stream **out)
{
        (void)lfd;
        (void)out;
        return -ENOTSUP;
}

long lazy_stream_ask(struct lazy_stream *stream, const struct lazy_want *want)
{
        (void)stream;
        (void)want;
        return -ENOTSUP;
}

long lazy_stream_next(struct lazy_stream *stream, struct lazy_got *got)
{
        (void)stream;
        (void)got;
        return -ENOTSUP;
}

short lazy_stream_events(const struct lazy_stream *stream)
{
        (void)stream;
        return 0;
}

void lazy_stream_bye(struct lazy_stream *stream)
{
        (void)stream;
}

void lazy_stream_close(struct lazy_stream *stream)
{
        (void)stream;
}
