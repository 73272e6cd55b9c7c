/* Memory that a child shares with its parent until one writes: each sees its own afterwards. */
#include "victim.h"

enum { SIZE = 8 << 20, OWN = 1 << 20 };
static char *memory;
static int told[2];

static void kid(void)
{
        fill(memory, OWN, 2);
        tell(told[1]);
        wait_for("go");
        CHECK(filled(memory, OWN, 2));
        CHECK(((uint64_t *)memory)[OWN / 8] == pattern(1, OWN / 8));
        fill(memory, SIZE, 3);
        CHECK(filled(memory, SIZE, 3));
        tell(told[1]);
}

int main(void)
{
        memory = anonymous(SIZE);
        fill(memory, SIZE, 1);
        CALL(pipe(told));
        pid_t pid = child(kid);
        hear(told[0]);
        ((uint64_t *)memory)[SIZE / 8 - 1] = 42;
        ready_and_wait();
        hear(told[0]);
        CHECK(((uint64_t *)memory)[SIZE / 8 - 1] == 42);
        ((uint64_t *)memory)[SIZE / 8 - 1] = pattern(1, SIZE / 8 - 1);
        CHECK(filled(memory, SIZE, 1));
        join_child(pid);
        pass();
}
