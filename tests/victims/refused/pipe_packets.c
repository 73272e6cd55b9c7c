// refused: packet
/* A pipe of packets (O_DIRECT), which keeps the borders of what was written. */
#include "victim.h"

int main(void)
{
        int packets[2];
        char text[16];

        CALL(pipe2(packets, O_DIRECT));
        CHECK(write(packets[1], "one", 3) == 3 && write(packets[1], "three", 5) == 5);
        ready_and_wait();
        CHECK(CALL(read(packets[0], text, 16)) == 3);
        CHECK(CALL(read(packets[0], text, 16)) == 5);
        pass();
}
