/* Grandchildren that share the memory of parent and grandparent, of which some was unmapped. */
#include "victim.h"

enum { SIZE = 2 << 20 };
static char *memory;
static int told[2];

static void grandchild(void)
{
        memory[0] = 3;
        tell(told[1]);
        wait_for("go");
        CHECK(memory[0] == 3 && memory[PAGE] == 2 && memory[SIZE - 1] == 1);
}

static void kid(void)
{
        memory[0] = memory[PAGE] = 2;
        CALL(munmap(memory + SIZE / 2, PAGE));
        pid_t below = child(grandchild);
        CALL(mprotect(memory + SIZE / 2 + PAGE, PAGE, PROT_READ));
        wait_for("go");
        CHECK(memory[0] == 2 && memory[PAGE] == 2 && memory[SIZE - 1] == 1);
        join_child(below);
}

int main(void)
{
        memory = anonymous(SIZE);
        memset(memory, 1, SIZE);
        CALL(pipe(told));
        pid_t pid = child(kid);
        hear(told[0]);
        ready_and_wait();
        CHECK(memory[0] == 1 && memory[PAGE] == 1 && memory[SIZE / 2] == 1);
        join_child(pid);
        pass();
}
