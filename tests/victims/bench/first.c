// args: 4
/* As many MiB of private anonymous memory as the argument says. It is ready once more as soon as it
 * runs after "go", and then checks all of it. */
#include "victim.h"

int main(UNUSED int argc, char **argv)
{
        size_t size = strtoul(argv[1], NULL, 10) << 20;
        void *memory = anonymous(size);

        fill(memory, size, 1);
        ready_and_wait();
        ready();
        CHECK(filled(memory, size, 1));
        pass();
}
