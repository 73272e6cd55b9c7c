/* A file page that was written and then made read-only, as the dynamic loader does (relro). */
#include "victim.h"

int main(void)
{
        int fd = made_file("data", 4 * PAGE, 1);
        char *memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

        CHECK(memory != MAP_FAILED);
        fill(memory + PAGE, PAGE, 2);
        CALL(mprotect(memory, 4 * PAGE, PROT_READ));
        close(fd);
        ready_and_wait();
        CHECK(filled(memory, PAGE, 1) && filled(memory + PAGE, PAGE, 2));
        CALL(mprotect(memory, 4 * PAGE, PROT_READ | PROT_WRITE));
        memory[0] = 1;
        pass();
}
