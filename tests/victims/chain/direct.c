// Threads read blocks of a file past the page cache, straight into memory, while a round is made.
// They start no further read once it is seen to be over, by the protection of a page that was
// written before: so what the device writes from then on was pinned before the round, and nothing
// but the tracker's care saves it. In the end each slot must hold the block that it got last.
#include "victim.h"

#include <stdatomic.h>

#define BLOCK        (1UL << 20)
#define NR_BLOCKS    8
#define NR_SLOTS     32
#define NR_CYCLES    4
#define UFFD_PROTECT (1ULL << 57)
#define RUN_MAX      64 /* pages that lose their protection for a fault below them */

static atomic_int going;
static int source, pagemap;
static char *slots, *sentinel;
static unsigned held[NR_SLOTS];

static void *reading(void *argument)
{
        unsigned slot = (unsigned)(uintptr_t)argument;
        unsigned block = held[slot];

        do {
                block = (block + 1) % NR_BLOCKS;
                CHECK(CALL(pread(source, slots + slot * BLOCK, BLOCK, block * (off_t)BLOCK)) ==
                      (ssize_t)BLOCK);
                held[slot] = block;
        } while (going);
        return NULL;
}

static int protected(const void *page)
{
        uint64_t word;

        CHECK(CALL(pread(pagemap, &word, 8, (off_t)((uintptr_t)page / PAGE * 8))) == 8);
        return (word & UFFD_PROTECT) != 0;
}

static void read_until_a_round(int cycle)
{
        pthread_t threads[NR_SLOTS];

        *sentinel = (char)cycle;
        CHECK(!protected(sentinel));
        going = 1;
        for (uintptr_t i = 0; i < NR_SLOTS; i++)
                threads[i] = started_thread(reading, (void *)i);
        ready();
        while (!protected(sentinel))
                sched_yield();
        going = 0;
        for (int i = 0; i < NR_SLOTS; i++)
                ZERO(pthread_join(threads[i], NULL));
}

int main(void)
{
        int fd = CALL(open(in_folder("blocks"), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        char step[16];

        slots = anonymous(NR_SLOTS * BLOCK + (RUN_MAX + 1) * PAGE);
        sentinel = slots + NR_SLOTS * BLOCK + RUN_MAX * PAGE;
        for (unsigned block = 0; block < NR_BLOCKS; block++) {
                fill(slots, BLOCK, block);
                CHECK(write(fd, slots, BLOCK) == (ssize_t)BLOCK);
        }
        CALL(fsync(fd));
        close(fd);
        for (unsigned slot = 0; slot < NR_SLOTS; slot++)
                fill(slots + slot * BLOCK, BLOCK, 0);
        source = CALL(open(in_folder("blocks"), O_RDONLY | O_DIRECT | O_CLOEXEC));
        for (int cycle = 0; cycle < NR_CYCLES; cycle++) {
                snprintf(step, sizeof(step), "cycle%d", cycle);
                CALL(mkfifo(in_folder(step), 0600));
        }
        for (int cycle = 0; cycle < NR_CYCLES; cycle++) {
                pagemap = CALL(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
                read_until_a_round(cycle);
                close(pagemap);
                ready();
                snprintf(step, sizeof(step), "cycle%d", cycle);
                wait_for(step);
        }
        ready_and_wait();
        for (unsigned slot = 0; slot < NR_SLOTS; slot++)
                CHECK(filled(slots + slot * BLOCK, BLOCK, held[slot]));
        pass();
}
