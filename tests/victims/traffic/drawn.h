/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What victims share that draw what they do: VICTIM DUTIES SEED [away]. `away`: it may be gone for
 * a time, in which its timers stand still, and what waits in sockets is lost.
 */
#ifndef DRAWN_H
#define DRAWN_H

#include "traffic.h"

#define NS 1000000000ULL

static uint64_t state;
static int away;

UNUSED static uint64_t any(uint64_t limit)
{
        return draw(&state) % limit;
}

/* So that others get to run, and what is dumped is now at work and now at rest. */
UNUSED static void rest(void)
{
        usleep((useconds_t)any(500));
}

UNUSED static uint64_t now(clockid_t clock)
{
        struct timespec time;

        CALL(clock_gettime(clock, &time));
        return (uint64_t)time.tv_sec * NS + (uint64_t)time.tv_nsec;
}

UNUSED static struct timespec spec(uint64_t ns)
{
        return (struct timespec){(time_t)(ns / NS), (long)(ns % NS)};
}

UNUSED static uint64_t ns_of(struct timespec time)
{
        return (uint64_t)time.tv_sec * NS + (uint64_t)time.tv_nsec;
}

UNUSED static short polled(int fd, short events)
{
        struct pollfd one = {.fd = fd, .events = events};

        return CALL(poll(&one, 1, 0)) ? one.revents : 0;
}

UNUSED static void await(int fd, short events)
{
        struct pollfd one = {.fd = fd, .events = events};

        while (poll(&one, 1, -1) != 1)
                CHECK(errno == EINTR);
}

UNUSED static void perform_drawn(const struct duty *duties, int nr, int argc, char **argv)
{
        state = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
        away = argc > 3 && !strcmp(argv[3], "away");
        perform_all(duties, nr, argc > 1 ? argv[1] : NULL);
}
#endif
