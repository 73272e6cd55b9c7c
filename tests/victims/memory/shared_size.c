// SPDX-License-Identifier: GPL-2.0-only
// cycles: 2
/*
 * shared_size: anonymous shared memory whose mappings end before it does, and behind its end. What
 * was unmapped is there when it is mapped again; what is behind the end is not.
 */
#include "../victim.h"

#define WHOLE (16 * PAGE)
#define PART  (4 * PAGE)

static char *shared(void)
{
        char *memory =
            mmap(NULL, 2 * WHOLE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        CHECK(memory != MAP_FAILED);
        CALL(munmap(memory, 2 * WHOLE));
        CHECK(mmap(memory, WHOLE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
                   -1, 0) == memory);
        return memory;
}

int main(void)
{
        char *shorter = shared(), *longer = shared();
        int ends[2];

        fill(shorter, PART, 1);
        fill(longer, WHOLE, 2);
        CALL(munmap(shorter + PART, WHOLE - PART));
        longer = mremap(longer, WHOLE, 2 * WHOLE, MREMAP_MAYMOVE);
        CHECK(longer != MAP_FAILED);
        CALL(pipe(ends));
        ready_and_wait();
        shorter = mremap(shorter, PART, WHOLE, MREMAP_MAYMOVE);
        CHECK(shorter != MAP_FAILED);
        CHECK(filled(shorter, PART, 1));
        CHECK(all_zero(shorter + PART, WHOLE - PART));
        CHECK(filled(longer, WHOLE, 2));
        for (size_t at = WHOLE; at < 2 * WHOLE; at += PAGE)
                CHECK(write(ends[1], longer + at, 1) < 0 && errno == EFAULT);
        pass();
}
