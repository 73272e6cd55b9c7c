// args: reserved
// args: unreserved
/* Shared anonymous huge pages of a parent and its child, mapped in two parts by one of them, with a
 * hole. */
#include "huge.h"

enum { PAGES = 4 };
static char *memory;
static int go[2], done[2];

static void check(void)
{
        CHECK(filled(memory, HUGE, 1));
        CHECK(filled(memory + HUGE + 7 * PAGE, PAGE, 2));
        CHECK(!present(memory + 2 * HUGE));
        CHECK(filled(memory + 3 * HUGE, HUGE, 3));
}

static void other(void)
{
        CALL(munmap(memory, HUGE));
        CALL(mprotect(memory + 3 * HUGE, HUGE, PROT_READ));
        tell(done[1]);
        hear(go[0]);
        CHECK(filled(memory + HUGE + 7 * PAGE, PAGE, 2));
        CHECK(filled(memory + 3 * HUGE, HUGE, 3));
        memory[HUGE] = 'x'; /* seen by the parent */
        memory[2 * HUGE] = 'y';
        tell(done[1]);
        wait_for("go");
}

int main(UNUSED int argc, char **argv)
{
        pid_t pid;

        memory = huge(PAGES, MAP_SHARED | (strcmp(argv[1], "reserved") ? MAP_NORESERVE : 0));
        fill(memory, HUGE, 1);
        fill(memory + HUGE + 7 * PAGE, PAGE, 2);
        fill(memory + 3 * HUGE, HUGE, 3);
        CALL(pipe(go));
        CALL(pipe(done));
        pid = child(other);
        hear(done[0]);
        ready_and_wait();
        check();
        tell(go[1]);
        hear(done[0]);
        CHECK(memory[HUGE] == 'x' && memory[2 * HUGE] == 'y');
        join_child(pid);
        pass();
}
