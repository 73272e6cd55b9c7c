/* Money moves between accounts in private huge pages and in small ones, without a pause: none may
 * be made or lost by an image that is not of one instant. */
#include "huge.h"
#include <stdatomic.h>

enum { PAGES = 3, SMALL = 256, BEGIN = 1000 };
static int64_t *accounts[PAGES * 512 + SMALL];
static atomic_int stopping;
static atomic_ulong moves;

#define NR (sizeof(accounts) / sizeof(*accounts))

static void *move(UNUSED void *argument)
{
        uint64_t state = 1;

        /* Not for ever, should the test have ended. */
        while (!stopping && moves < 1UL << 32) {
                state = state * 6364136223846793005ULL + 1442695040888963407ULL;
                *accounts[(state >> 33) % NR] -= 1;
                *accounts[(state >> 45) % NR] += 1;
                moves++;
        }
        return NULL;
}

int main(void)
{
        char *large = huge(PAGES, MAP_PRIVATE), *small = anonymous(SMALL * PAGE);
        int64_t sum = 0;
        pthread_t thread;

        for (size_t i = 0; i < NR; i++) {
                accounts[i] =
                    (int64_t *)(i < SMALL ? small + i * PAGE : large + (i - SMALL) * PAGE);
                *accounts[i] = BEGIN;
        }
        thread = started_thread(move, NULL);
        ready_and_wait();
        stopping = 1;
        ZERO(pthread_join(thread, NULL));
        for (size_t i = 0; i < NR; i++)
                sum += *accounts[i];
        CHECK(sum == (int64_t)NR * BEGIN && moves);
        pass();
}
