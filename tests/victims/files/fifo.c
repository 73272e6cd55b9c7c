/* A named FIFO with data in flight, opened for reading, for writing, and for both. */
#include "victim.h"

int main(void)
{
        char text[32];

        CALL(mkfifo(in_folder("named"), 0600));
        CALL(mkfifo(in_folder("other"), 0600));
        int reader = CALL(open(in_folder("named"), O_RDONLY | O_NONBLOCK));
        int writer = CALL(open(in_folder("named"), O_WRONLY));
        int both = CALL(open(in_folder("other"), O_RDWR));
        CHECK(write(writer, "in flight", 9) == 9);
        CHECK(write(both, "as well", 7) == 7);
        ready_and_wait();
        CHECK(CALL(read(reader, text, 32)) == 9 && !memcmp(text, "in flight", 9));
        CHECK(CALL(read(both, text, 32)) == 7 && !memcmp(text, "as well", 7));
        CHECK(read(reader, text, 1) == -1 && errno == EAGAIN);
        close(writer);
        CHECK(CALL(read(reader, text, 1)) == 0);
        pass();
}
