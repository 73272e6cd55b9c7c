// args: 4
/* As many MiB of random private anonymous memory as the argument says, and nothing else. */
#include "victim.h"

int main(UNUSED int argc, char **argv)
{
        size_t size = strtoul(argv[1], NULL, 10) << 20;
        void *memory = anonymous(size);

        fill(memory, size, 1);
        ready_and_wait();
        CHECK(filled(memory, size, 1));
        pass();
}
