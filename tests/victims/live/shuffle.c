// SPDX-License-Identifier: GPL-2.0-only
/*
 * shuffle: blocks of memory change places with each other all the time, by mremap(2), and hardly
 * any page is written. Who takes a page that was moved for the one that was there before restores
 * blocks in wrong places.
 *
 * `order` is the record: which block is at which place. On "go" both threads stop between two
 * exchanges, and every page of every block is checked.
 */
#include "../victim.h"

#include <stdatomic.h>
#include <sys/mman.h>

#define NR_PLACES 32
#define BLOCK     (4 * 4096)
#define NR_MOVERS 2
#define NR_LOOKS  16 /* at blocks, after each exchange */

struct mover {
        char *places; /* of this thread alone, NR_PLACES blocks */
        char *aside;  /* room for one */
        uint64_t order[NR_PLACES];
        uint64_t nr; /* exchanges */
        uint64_t seed;
};

static struct mover movers[NR_MOVERS];
static atomic_int stopping;

static void move(char *from, char *to)
{
        CHECK(mremap(from, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
}

static uint64_t draw(struct mover *me)
{
        me->seed = me->seed * 6364136223846793005ULL + 1442695040888963407ULL;
        return me->seed >> 33;
}

static void *shuffle(void *argument)
{
        struct mover *me = argument;

        while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
                uint64_t one = draw(me) % NR_PLACES, other = draw(me) % NR_PLACES, kept;

                if (one == other)
                        continue;
                move(me->places + one * BLOCK, me->aside);
                move(me->places + other * BLOCK, me->places + one * BLOCK);
                move(me->aside, me->places + other * BLOCK);
                kept = me->order[one];
                me->order[one] = me->order[other];
                me->order[other] = kept;
                me->nr++;
                for (int i = 0; i < NR_LOOKS; i++) {
                        uint64_t k = draw(me) % NR_PLACES;

                        CHECK(filled(me->places + k * BLOCK, BLOCK, me->order[k]));
                }
        }
        return NULL;
}

int main(void)
{
        pthread_t threads[NR_MOVERS];

        for (int i = 0; i < NR_MOVERS; i++) {
                struct mover *me = &movers[i];

                me->places = anonymous(NR_PLACES * BLOCK);
                me->aside = anonymous(BLOCK);
                me->seed = (uint64_t)i;
                for (uint64_t k = 0; k < NR_PLACES; k++) {
                        me->order[k] = (uint64_t)i * NR_PLACES + k + 1;
                        fill(me->places + k * BLOCK, BLOCK, me->order[k]);
                }
        }
        for (int i = 0; i < NR_MOVERS; i++)
                threads[i] = started_thread(shuffle, &movers[i]);
        ready_and_wait();
        atomic_store(&stopping, 1);
        for (int i = 0; i < NR_MOVERS; i++) {
                ZERO(pthread_join(threads[i], NULL));
                CHECK(movers[i].nr > 0);
                for (uint64_t k = 0; k < NR_PLACES; k++)
                        CHECK(filled(movers[i].places + k * BLOCK, BLOCK, movers[i].order[k]));
        }
        pass();
}
