/* One shared memory object of which parent and child have mapped different parts, some twice. */
#include "victim.h"

enum { SIZE = 16 * PAGE };
static char *memory, *again;
static int told[2];

static void kid(void)
{
        CALL(munmap(memory, SIZE / 2)); /* keeps the upper half only */
        tell(told[1]);
        wait_for("go");
        CHECK(memory[SIZE - PAGE] == 15);
        memory[SIZE / 2] = 99;
}

int main(void)
{
        memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(memory != MAP_FAILED);
        for (size_t i = 0; i < SIZE / PAGE; i++)
                memory[i * PAGE] = (char)i;
        /* A second view of two pages of the same object. */
        again = mremap(memory + 4 * PAGE, 0, 2 * PAGE, MREMAP_MAYMOVE);
        CHECK(again != MAP_FAILED);
        CALL(pipe(told));
        pid_t pid = child(kid);
        hear(told[0]);
        ready_and_wait();
        join_child(pid);
        CHECK(memory[SIZE / 2] == 99);
        CHECK(again[0] == 4 && again[PAGE] == 5);
        memory[5 * PAGE] = 55;
        CHECK(again[PAGE] == 55);
        pass();
}
