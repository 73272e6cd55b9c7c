/* A mapping that grows down on a touch below it, and the main stack, which does the same. */
#include "victim.h"

__attribute__((noinline)) static int deep(int levels)
{
        volatile char frame[64 * 1024];

        frame[0] = (char)levels;
        frame[sizeof(frame) - 1] = frame[0];
        return levels ? deep(levels - 1) + (frame[sizeof(frame) - 1] == (char)levels) : 0;
}

int main(void)
{
        /* Room below, so that growing meets nothing. */
        char *room = mmap(NULL, 4 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(room != MAP_FAILED);
        char *top = room + (4 << 20) - 16 * PAGE;
        CALL(munmap(room, 4 << 20));
        char *memory =
            mmap(top, 4 * PAGE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0);
        CHECK(memory == top);
        fill(memory, 4 * PAGE, 1);
        memory[-8] = 5; /* has grown by one page before */
        ready_and_wait();
        CHECK(filled(memory, 4 * PAGE, 1) && memory[-8] == 5);
        for (int page = 2; page < 20; page++)
                memory[-page * (long)PAGE] = (char)page;
        CHECK(memory[-19 * (long)PAGE] == 19);
        CHECK(deep(64) == 64); /* 4 MiB of main stack */
        pass();
}
