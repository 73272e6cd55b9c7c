/* Anonymous memory shared by parent and child: what one writes after the restore the other sees. */
#include "victim.h"

enum { SIZE = 1 << 20 };
static char *memory;

static void kid(void)
{
        wait_for("go");
        CHECK(filled(memory, SIZE / 2, 1));
        memory[SIZE - 1] = 77;
}

int main(void)
{
        memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(memory != MAP_FAILED);
        fill(memory, SIZE / 2, 1);
        pid_t pid = child(kid);
        ready_and_wait();
        join_child(pid);
        CHECK(filled(memory, SIZE / 2, 1));
        CHECK(memory[SIZE - 1] == 77);
        CHECK(all_zero(memory + SIZE / 2, SIZE / 2 - 8));
        pass();
}
