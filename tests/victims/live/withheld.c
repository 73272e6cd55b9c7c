/* Memory that a child does not get, and memory of which it gets zeros, beside ordinary one; written
 * to on and on, each page twice the same number. */
#include "victim.h"

#include <stdatomic.h>

#define NR 1024UL

static uint64_t *areas[3];
static atomic_int stop;

static void *write_on(void *unused)
{
        for (uint64_t round = 1; !stop; round++) {
                for (uint64_t page = 0; page < NR; page++) {
                        volatile uint64_t *at = areas[round % 3] + page * PAGE / 8;

                        at[0] += 2;
                        at[511] = at[0];
                }
        }
        return unused;
}

int main(void)
{
        static const int advice[3] = {MADV_NORMAL, MADV_DONTFORK, MADV_WIPEONFORK};
        pthread_t writer;

        for (int i = 0; i < 3; i++) {
                areas[i] = anonymous(NR * PAGE);
                CALL(madvise(areas[i], NR * PAGE, advice[i]));
                for (uint64_t page = 0; page < NR; page++)
                        areas[i][page * PAGE / 8] = areas[i][page * PAGE / 8 + 511] =
                            page << 32 | 1;
        }
        writer = started_thread(write_on, NULL);
        ready_and_wait();
        stop = 1;
        ZERO(pthread_join(writer, NULL));
        for (int i = 0; i < 3; i++) {
                for (uint64_t page = 0; page < NR; page++) {
                        uint64_t *at = areas[i] + page * PAGE / 8;

                        CHECK(at[0] >> 32 == page && at[0] & 1);
                        CHECK(at[511] == at[0]);
                }
        }
        pass();
}
