/* A log opened with O_APPEND: others wrote to it meanwhile, writing goes on at its end. */
#include "victim.h"

int main(void)
{
        char text[32] = "";
        int fd = CALL(open(in_folder("log"), O_WRONLY | O_CREAT | O_APPEND, 0644));

        CHECK(write(fd, "one ", 4) == 4);
        ready_and_wait();
        int other = CALL(open(in_folder("log"), O_RDWR | O_APPEND));
        CHECK(write(other, "two ", 4) == 4);
        CHECK(write(fd, "three", 5) == 5);
        CHECK(CALL(pread(other, text, 31, 0)) == 13 && !strcmp(text, "one two three"));
        pass();
}
