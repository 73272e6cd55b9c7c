/* 1 TiB reserved without access, as run times of languages do, a little of it in use. */
#include "victim.h"

int main(void)
{
        size_t size = 1UL << 40;
        char *memory =
            mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        char *overcommitted = mmap(NULL, size, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        CHECK(memory != MAP_FAILED && overcommitted != MAP_FAILED);
        char *used = memory + (300UL << 30);
        CALL(mprotect(used, 1 << 20, PROT_READ | PROT_WRITE));
        fill(used, 1 << 20, 1);
        fill(overcommitted + (size - PAGE), PAGE, 2);
        fill(overcommitted + (size / 2), PAGE, 3);
        ready_and_wait();
        CHECK(filled(used, 1 << 20, 1));
        CHECK(filled(overcommitted + (size - PAGE), PAGE, 2));
        CHECK(filled(overcommitted + (size / 2), PAGE, 3));
        CHECK(all_zero(overcommitted, PAGE));
        CALL(mprotect(memory, PAGE, PROT_READ | PROT_WRITE));
        CHECK(all_zero(memory, PAGE));
        pass();
}
