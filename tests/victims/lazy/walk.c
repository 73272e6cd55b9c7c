// args: 32
/* As many MiB as the argument says. After "touch" it reads one page of each 128 KiB, says that it
 * is ready again, and after "go" checks all of it. */
#include "victim.h"

#define STEP (128UL << 10)

int main(UNUSED int argc, char **argv)
{
        size_t size = strtoul(argv[1], NULL, 10) << 20;
        char *memory = anonymous(size);

        fill(memory, size, 1);
        CALL(mkfifo(in_folder("touch"), 0666));
        ready();
        wait_for("touch");
        for (size_t at = 0; at < size; at += STEP)
                CHECK(*(uint64_t *)(memory + at) == pattern(1, at / 8));
        ready_and_wait();
        CHECK(filled(memory, size, 1));
        pass();
}
