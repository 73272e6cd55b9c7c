/* The offset of an open file, beyond its end in one case, and reading on from there. */
#include "victim.h"

int main(void)
{
        char text[8];
        int fd = made_file("data", 10000, 1), beyond = made_file("short", 10, 1);

        CALL(lseek(fd, 5000, SEEK_SET));
        CALL(lseek(beyond, 1L << 33, SEEK_SET));
        ready_and_wait();
        uint64_t word = pattern(1, 625);
        CHECK(CALL(read(fd, text, 8)) == 8 && !memcmp(text, &word, 8));
        CHECK(CALL(lseek(fd, 0, SEEK_CUR)) == 5008);
        CHECK(CALL(lseek(beyond, 0, SEEK_CUR)) == 1L << 33);
        pass();
}
