/* A memfd: descriptor with offset, a shared and a private mapping, seals. */
#include "victim.h"

enum { SIZE = 8 * PAGE };

int main(void)
{
        int fd = CALL(memfd_create("a name", MFD_CLOEXEC | MFD_ALLOW_SEALING));

        CALL(ftruncate(fd, SIZE));
        char *shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        char *private = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        CHECK(shared != MAP_FAILED && private != MAP_FAILED);
        fill(shared, SIZE / 2, 4);
        fill(private + PAGE, PAGE, 5);
        CALL(lseek(fd, 777, SEEK_SET));
        CALL(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK));
        ready_and_wait();
        CHECK(lseek(fd, 0, SEEK_CUR) == 777);
        CHECK(fcntl(fd, F_GET_SEALS) == (F_SEAL_GROW | F_SEAL_SHRINK));
        CHECK(ftruncate(fd, SIZE + PAGE) == -1 && errno == EPERM);
        CHECK(filled(shared, SIZE / 2, 4));
        CHECK(filled(private, PAGE, 4) && filled(private + PAGE, PAGE, 5));
        CHECK(all_zero(shared + SIZE / 2, SIZE / 2));
        CHECK(pwrite(fd, "new", 3, 3 * PAGE) == 3);
        CHECK(!memcmp(shared + 3 * PAGE, "new", 3) && !memcmp(private + 3 * PAGE, "new", 3));
        pass();
}
