// SPDX-License-Identifier: GPL-2.0-only
/*
 * stretcher: one thread moves a large piece of memory to where it is twice as long and cuts it
 * again, one makes another piece longer page by page where it is, as realloc(3) does. They do it
 * all the time, and each call has to work: one that finds its memory in two mappings does not.
 */
#include "../victim.h"

#include <stdatomic.h>
#include <sys/mman.h>

#define LARGE (96UL << 20)
#define SMALL (16 * PAGE)
#define GAP   (1024 * PAGE)

static atomic_int stopping;
static char *large, *small;

static void *move(void *unused)
{
        for (; !stopping; large = unused) {
                unused = mremap(large, LARGE, 2 * LARGE, MREMAP_MAYMOVE);
                CHECK(unused != MAP_FAILED);
                CHECK(mremap(unused, 2 * LARGE, LARGE, 0) == unused);
        }
        return NULL;
}

static void *grow(void *unused)
{
        while (!stopping) {
                size_t size = SMALL, more;

                /* Whoever else maps something may have come into the gap. */
                for (; size < GAP; size = more) {
                        more = size + PAGE;
                        if (mremap(small, size, more, 0) != small) {
                                CHECK(errno == ENOMEM);
                                break;
                        }
                }
                CHECK(mremap(small, size, SMALL, 0) == small);
        }
        return unused;
}

int main(void)
{
        pthread_t threads[2];

        large = anonymous(LARGE);
        fill(large, LARGE, 7);
        small = anonymous(GAP);
        CALL(munmap(small + SMALL, GAP - SMALL));
        fill(small, SMALL, 8);
        threads[0] = started_thread(move, NULL);
        threads[1] = started_thread(grow, NULL);
        ready_and_wait();
        stopping = 1;
        for (int i = 0; i < 2; i++)
                ZERO(pthread_join(threads[i], NULL));
        CHECK(filled(large, LARGE, 7));
        CHECK(filled(small, SMALL, 8));
        pass();
}
