/* Memory that is mapped, filled, moved and unmapped all the time by two threads. */
#include "victim.h"

static volatile int stop;

static void *changer(void *seed)
{
        for (uint64_t round = (uint64_t)(uintptr_t)seed; !stop; round++) {
                size_t size = (1 + round % 40) * PAGE;
                char *memory = anonymous(size);

                fill(memory, size, round);
                memory = mremap(memory, size, size + 8 * PAGE, MREMAP_MAYMOVE);
                CHECK(memory != MAP_FAILED);
                CALL(mprotect(memory, PAGE, PROT_READ));
                CHECK(filled(memory, size, round) && all_zero(memory + size, 8 * PAGE));
                CALL(munmap(memory, size + 8 * PAGE));
        }
        return NULL;
}

int main(void)
{
        pthread_t threads[2];

        for (int i = 0; i < 2; i++)
                ZERO(pthread_create(&threads[i], NULL, changer, (void *)(uintptr_t)(i * 1000)));
        ready_and_wait();
        stop = 1;
        for (int i = 0; i < 2; i++)
                ZERO(pthread_join(threads[i], NULL));
        pass();
}
