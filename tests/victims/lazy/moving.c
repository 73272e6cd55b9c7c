// args: 200
/* One thread moves memory between two places, again and again, while another forks children that
 * look at some pages of it: it is at one place or at the other, and never at both. After "go" its
 * pages may not have arrived. */
#include "victim.h"

#include <stdatomic.h>

#define NR_PAGES 2048UL
#define SIZE     (NR_PAGES * PAGE)

static char *places[2];
static atomic_int ended;

static int is_mapped(const char *at)
{
        unsigned char byte;

        return mincore((void *)at, PAGE, &byte) == 0;
}

static void *mover(void *where)
{
        wait_for("go");
        for (int at = 0; !ended; at = !at)
                CHECK(mremap(places[at], SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, places[!at]) ==
                      places[!at]);
        return where;
}

static void look(unsigned long round)
{
        int at = is_mapped(places[1]);

        CHECK(is_mapped(places[at]) && !is_mapped(places[!at]));
        for (uint64_t i = 0; i < 3; i++) {
                uint64_t page = pattern(round, i) % NR_PAGES;

                CHECK(filled(places[at] + page * PAGE, PAGE, page + 1));
        }
        _exit(0);
}

int main(UNUSED int argc, char **argv)
{
        unsigned long nr = strtoul(argv[1], NULL, 10);
        pthread_t thread;

        /* First, for its stack is not to be where memory moves to. */
        thread = started_thread(mover, NULL);
        places[0] = anonymous(SIZE);
        places[1] = anonymous(SIZE);
        CALL(munmap(places[1], SIZE));
        for (uint64_t page = 0; page < NR_PAGES; page++)
                fill(places[0] + page * PAGE, PAGE, page + 1);
        ready_and_wait();
        for (unsigned long round = 0; round < nr; round++) {
                pid_t pid = CALL(fork());

                if (pid == 0)
                        look(round);
                join_child(pid);
        }
        ended = 1;
        ZERO(pthread_join(thread, NULL));
        pass();
}
