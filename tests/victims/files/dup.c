/* Duplicates share an offset and status flags, opening again does not; numbers are kept. */
#include "victim.h"

int main(void)
{
        int fd = made_file("data", 1000, 1);
        int again = CALL(open(in_folder("data"), O_RDWR));
        int copy = CALL(dup2(fd, 300)), far = CALL(fcntl(fd, F_DUPFD_CLOEXEC, 5000));

        CHECK(far == 5000);
        CALL(lseek(fd, 100, SEEK_SET));
        CALL(lseek(again, 200, SEEK_SET));
        ready_and_wait();
        CALL(lseek(copy, 50, SEEK_CUR));
        CHECK(lseek(fd, 0, SEEK_CUR) == 150 && lseek(far, 0, SEEK_CUR) == 150);
        CHECK(lseek(again, 0, SEEK_CUR) == 200);
        CALL(fcntl(far, F_SETFL, O_APPEND));
        CHECK(fcntl(fd, F_GETFL) & O_APPEND);
        CHECK(!(fcntl(again, F_GETFL) & O_APPEND));
        CHECK(fcntl(far, F_GETFD) == FD_CLOEXEC && fcntl(copy, F_GETFD) == 0);
        CHECK(dup(0) == again + 1); /* the numbers in between are free */
        pass();
}
