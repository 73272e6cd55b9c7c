// args: 200
/* Shrinks a mapping, lets it grow again and forks, without a pause: what it has grown by is empty,
 * in the child as well. After "go" what was there may not have arrived. */
#include "victim.h"

#define NR_PAGES 4UL
#define SIZE     (NR_PAGES * PAGE)
#define STEP     (2 * SIZE)

static char *at;

static void look(void)
{
        CHECK(all_zero(at + PAGE, SIZE - PAGE));
        CHECK(filled(at, PAGE, 7));
}

int main(UNUSED int argc, char **argv)
{
        unsigned long nr = strtoul(argv[1], NULL, 10);
        char *all = anonymous(nr * STEP);

        for (unsigned long i = 0; i < nr; i++) {
                fill(all + i * STEP, SIZE, 7);
                CALL(munmap(all + i * STEP + SIZE, SIZE));
        }
        ready_and_wait();
        for (unsigned long i = 0; i < nr; i++) {
                at = all + i * STEP;
                CHECK(mremap(at, SIZE, PAGE, 0) == at);
                CHECK(mremap(at, PAGE, SIZE, 0) == at);
                join_child(child(look));
        }
        pass();
}
