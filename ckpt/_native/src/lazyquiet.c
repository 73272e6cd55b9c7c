/* SPDX-License-Identifier: GPL-2.0-only */
#include "lazyserver.h"

#include "lazyfill.h"

enum { NR_LOOKS = 50, RESTLESS_S = 10 };

static time_t now_s(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec;
}

/* Space number `parent` was seen quiet. */
static void grow_up(struct server *s, uint64_t parent)
{
        lazy_state_quiet(&s->state, parent);
        for (uint64_t i = 0; i < s->state.nr_spaces; i++) {
                struct lazy_space *space = space_at(s, i);

                if (space->uffd < 0 || !(space->flags & CKPT_LAZY_BORN) || space->parent != parent)
                        continue;
                space->mute = 0;
                lazy_wake_all(space->uffd); /* what was put off */
        }
}

int lazy_settle_down(struct server *s)
{
        int restless = 0, late = s->restless && now_s() - s->restless > RESTLESS_S;

        for (uint64_t i = 0; i < s->state.nr_spaces; i++) {
                if (!lazy_state_restless(&s->state, i))
                        continue;
                for (int n = 0; n < NR_LOOKS && !lazy_quiet(space_at(s, i)->uffd); n++)
                        ;
                if (late || lazy_quiet(space_at(s, i)->uffd))
                        grow_up(s, i);
                else
                        restless = 1;
        }
        if (!restless || late)
                s->restless = 0;
        else if (!s->restless)
                s->restless = now_s();
        return restless;
}
