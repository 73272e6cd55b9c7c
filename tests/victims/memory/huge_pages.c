/* Transparent huge pages: their content, and the hint to have them. */
#include "victim.h"

enum { HUGE = 2 << 20, NR = 6 };

int main(void)
{
        char *room = anonymous((NR + 1) * HUGE);
        char *memory = (char *)(((uintptr_t)room + HUGE - 1) & ~(uintptr_t)(HUGE - 1));

        CALL(madvise(memory, NR * HUGE, MADV_HUGEPAGE));
        fill(memory, NR / 2 * HUGE, 1);
        fill(memory + (NR - 1) * HUGE + PAGE, PAGE, 2); /* one page of a huge one */
        ready_and_wait();
        CHECK(filled(memory, NR / 2 * HUGE, 1));
        CHECK(filled(memory + (NR - 1) * HUGE + PAGE, PAGE, 2));
        CHECK(all_zero(memory + NR / 2 * HUGE, HUGE));
        pass();
}
