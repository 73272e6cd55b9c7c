/* Mappings sealed by mseal(2), with their content; their neighbours are free. A child has them too.
 */
#include "victim.h"

enum { MSEAL = 462 };

static char *memory;

static void check(void)
{
        CHECK(filled(memory, 8 * PAGE, 5));
        CHECK(mprotect(memory + 2 * PAGE, PAGE, PROT_NONE) == -1 && errno == EPERM);
        CHECK(munmap(memory + 4 * PAGE, PAGE) == -1 && errno == EPERM);
        CHECK(munmap(memory + 6 * PAGE, PAGE) == -1 && errno == EPERM);
        memory[2 * PAGE] = 1;
        CALL(munmap(memory + 7 * PAGE, PAGE));
        CALL(mprotect(memory, PAGE, PROT_NONE));
}

static void wait_and_check(void)
{
        ready_and_wait();
        check();
}

int main(void)
{
        memory = anonymous(8 * PAGE);
        fill(memory, 8 * PAGE, 5);
        CALL(mprotect(memory + 6 * PAGE, PAGE, PROT_READ));
        CALL(syscall(MSEAL, memory + PAGE, 6 * PAGE, 0UL));
        pid_t pid = child(wait_and_check);
        wait_for("go");
        check();
        join_child(pid);
        pass();
}
