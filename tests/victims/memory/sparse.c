/* 256 MiB of which 64 pages were written, others only read: the rest takes no memory, no file. */
#include "victim.h"

enum { ALL = 256 << 20, STEP = 4 << 20 };

static size_t resident(const char *memory)
{
        static unsigned char map[ALL / PAGE];
        size_t count = 0;

        CALL(mincore((void *)memory, ALL, map));
        for (size_t i = 0; i < sizeof(map); i++)
                count += map[i] & 1;
        return count;
}

int main(void)
{
        char *memory = anonymous(ALL);
        uint64_t sum = 0;

        CALL(madvise(memory, ALL, MADV_NOHUGEPAGE));
        for (size_t at = 0; at < ALL; at += STEP) {
                fill(memory + at, PAGE, at);
                sum += memory[at + STEP / 2]; /* the zero page */
        }
        CHECK(sum == 0);
        ready_and_wait();
        CHECK(resident(memory) <= 2 * ALL / STEP);
        for (size_t at = 0; at < ALL; at += STEP) {
                CHECK(filled(memory + at, PAGE, at));
                CHECK(all_zero(memory + at + PAGE, PAGE));
                CHECK(all_zero(memory + at + STEP / 2, PAGE));
        }
        pass();
}
