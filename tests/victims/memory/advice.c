/* What madvise(2) stored in mappings: seen from outside as VmFlags, and by what it does. */
#include "victim.h"

static char *wiped;

static void kid(void)
{
        CHECK(all_zero(wiped, PAGE));
}

int main(void)
{
        int advice[] = {MADV_DONTFORK, MADV_DONTDUMP,   MADV_WIPEONFORK, MADV_MERGEABLE,
                        MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_SEQUENTIAL, MADV_RANDOM};
        enum { NR = sizeof(advice) / sizeof(advice[0]) };
        char *memory[NR];

        for (int i = 0; i < NR; i++) {
                memory[i] = anonymous(4 << 20);
                fill(memory[i], 3 * PAGE, i);
                CALL(madvise(memory[i], 4 << 20, advice[i]));
        }
        wiped = memory[2];
        ready_and_wait();
        for (int i = 0; i < NR; i++)
                CHECK(filled(memory[i], 3 * PAGE, i));
        join_child(child(kid));
        pass();
}
