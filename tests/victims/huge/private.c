// args: reserved
// args: unreserved
/* Private huge pages: whole, written in part, never touched, without access, moved by mremap(2),
 * and copied on write by a child that has none reserved. */
#include "huge.h"

enum { PAGES = 4 };
static char *memory, *none, *moved;
static int written[2];

static void check(void)
{
        CHECK(filled(memory + PAGE, HUGE - PAGE, 1));
        CHECK(filled(memory + HUGE + 5 * PAGE, PAGE, 2));
        CHECK(all_zero(memory + HUGE, 5 * PAGE));
        CHECK(all_zero(memory + HUGE + 6 * PAGE, HUGE - 6 * PAGE));
        CHECK(!present(memory + 2 * HUGE));
        CALL(mprotect(none, HUGE, PROT_READ | PROT_WRITE));
        CHECK(filled(none, HUGE, 3));
        CALL(mprotect(none, HUGE, PROT_NONE));
        CHECK(filled(moved, HUGE, 4));
}

static void other(void)
{
        memory[0] = 'c'; /* its own copy */
        tell(written[1]);
        wait_for("go");
        check();
        CHECK(memory[0] == 'c');
}

int main(UNUSED int argc, char **argv)
{
        int flags = MAP_PRIVATE | (strcmp(argv[1], "reserved") ? MAP_NORESERVE : 0);
        char *place = huge(1, MAP_PRIVATE | MAP_NORESERVE);
        pid_t pid;

        memory = huge(PAGES, flags);
        fill(memory + PAGE, HUGE - PAGE, 1);
        fill(memory + HUGE + 5 * PAGE, PAGE, 2);
        none = memory + 3 * HUGE;
        fill(none, HUGE, 3);
        CALL(mprotect(none, HUGE, PROT_NONE));
        moved = huge(1, flags);
        fill(moved, HUGE, 4);
        CALL(mremap(moved, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, place));
        moved = place;
        CALL(pipe(written));
        pid = child(other);
        hear(written[0]);
        ready_and_wait();
        check();
        CHECK(memory[0] == 0);
        memory[2 * HUGE] = 1; /* there is a page for it */
        join_child(pid);
        pass();
}
