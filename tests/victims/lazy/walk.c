// args: 32
/* As many MiB as the argument says. After "touch" it reads one page of each 128 KiB and writes
 * every second of these, says that it is ready again, and after "go" checks all of it. */
#include "victim.h"

#define STEP (128UL << 10)

static uint64_t holds(size_t at)
{
        return at % STEP < PAGE && at / STEP % 2;
}

static char *page_of(char *memory, size_t at, char *wanted)
{
        fill(wanted, PAGE, holds(at) ? 1000 + at : at);
        return memory + at;
}

int main(UNUSED int argc, char **argv)
{
        size_t size = strtoul(argv[1], NULL, 10) << 20;
        char *memory = anonymous(size), wanted[PAGE];

        for (size_t at = 0; at < size; at += PAGE)
                fill(memory + at, PAGE, at);
        CALL(mkfifo(in_folder("touch"), 0666));
        ready();
        wait_for("touch");
        for (size_t at = 0; at < size; at += STEP) {
                CHECK(filled(memory + at, PAGE, at));
                if (holds(at))
                        fill(memory + at, PAGE, 1000 + at);
        }
        ready_and_wait();
        for (size_t at = 0; at < size; at += PAGE)
                CHECK(!memcmp(page_of(memory, at, wanted), wanted, PAGE));
        pass();
}
