/* Mappings that mremap(2) moved and grew, and a stack of a file's private pages moved elsewhere. */
#include "victim.h"

int main(void)
{
        char *memory = anonymous(8 * PAGE);
        int fd = made_file("data", 8 * PAGE, 7);
        char *mapped = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        char *room = mmap(NULL, 64 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        CHECK(mapped != MAP_FAILED && room != MAP_FAILED);
        fill(memory, 8 * PAGE, 1);
        mapped[3 * PAGE] = 33;
        memory = mremap(memory, 8 * PAGE, 16 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room + PAGE);
        mapped =
            mremap(mapped, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room + 30 * PAGE);
        CHECK(memory != MAP_FAILED && mapped != MAP_FAILED);
        ready_and_wait();
        CHECK(filled(memory, 8 * PAGE, 1) && all_zero(memory + 8 * PAGE, 8 * PAGE));
        CHECK(mapped[3 * PAGE] == 33 && *(uint64_t *)mapped == pattern(7, 0));
        CHECK(*(uint64_t *)(mapped + 7 * PAGE) == pattern(7, 7 * PAGE / 8));
        pass();
}
