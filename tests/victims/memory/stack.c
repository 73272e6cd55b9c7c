/* The main stack: deep frames, argv and environment above them, and room to grow. */
#include "victim.h"

__attribute__((noinline)) static uint64_t down(int levels)
{
        uint64_t frame[512];

        fill(frame, sizeof(frame), levels);
        if (levels)
                CHECK(down(levels - 1) == pattern(levels - 1, 511));
        else
                ready_and_wait();
        CHECK(filled(frame, sizeof(frame), levels));
        return frame[511];
}

int main(UNUSED int argc, char **argv)
{
        CHECK(down(200) == pattern(200, 511));
        CHECK(strstr(argv[0], "stack") != NULL);
        pass();
}
