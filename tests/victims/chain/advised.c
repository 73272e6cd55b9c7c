/* A mapping whose flags change without a trace in /proc/PID/maps, when it is told: a child born
 * after that must not have it. */
#include "victim.h"

static char *memory;

static void kid(void)
{
        unsigned char resident;

        CHECK(mincore(memory, PAGE, &resident) == -1 && errno == ENOMEM);
}

int main(void)
{
        /* With neighbours of which it differs before and after, so that none is split or merged. */
        memory = CALL(mmap(NULL, 66 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) + PAGE;
        CALL(mprotect(memory, 64 * PAGE, PROT_READ | PROT_WRITE));
        fill(memory, 64 * PAGE, 1);
        CALL(mkfifo(in_folder("advise"), 0666));
        ready();
        wait_for("advise");
        CALL(madvise(memory, 64 * PAGE, MADV_DONTFORK));
        ready();
        wait_for("go");
        CHECK(filled(memory, 64 * PAGE, 1));
        join_child(child(kid));
        pass();
}
