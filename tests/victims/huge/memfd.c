// args: mapped
// args: open
/* A memfd of huge pages: a descriptor with its position, shared and private mappings, a hole,
 * seals; or nothing but a descriptor. */
#include "huge.h"
#include <linux/memfd.h>

enum { PAGES = 4 };
static const int SEALS = F_SEAL_GROW | F_SEAL_SHRINK;

int main(UNUSED int argc, char **argv)
{
        int fd = CALL(
            memfd_create("huge one", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_HUGE_2MB));
        int keep = !strcmp(argv[1], "mapped");
        char *shared, *private = NULL;

        CALL(ftruncate(fd, PAGES * HUGE));
        shared = mmap(NULL, PAGES * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(shared != MAP_FAILED);
        fill(shared, HUGE, 1);
        fill(shared + 2 * HUGE + 9 * PAGE, PAGE, 2);
        if (keep) {
                private = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 2 * HUGE);
                CHECK(private != MAP_FAILED);
                fill(private, PAGE, 3);
        } else {
                CALL(munmap(shared, PAGES * HUGE));
        }
        CALL(lseek(fd, 777, SEEK_SET));
        CALL(fcntl(fd, F_ADD_SEALS, SEALS));
        ready_and_wait();
        CHECK(lseek(fd, 0, SEEK_CUR) == 777 && fcntl(fd, F_GET_SEALS) == SEALS);
        CHECK(ftruncate(fd, HUGE) == -1 && errno == EPERM);
        if (!keep) {
                shared = mmap(NULL, PAGES * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
                CHECK(shared != MAP_FAILED);
        }
        struct stat st;
        CALL(fstat(fd, &st));
        CHECK(st.st_size == PAGES * (long)HUGE && st.st_blocks == 2 * (long)HUGE / 512);
        CHECK(filled(shared, HUGE, 1) && filled(shared + 2 * HUGE + 9 * PAGE, PAGE, 2));
        CHECK(all_zero(shared + 2 * HUGE, 9 * PAGE));
        if (keep) {
                CHECK(filled(private, PAGE, 3) && filled(private + 9 * PAGE, PAGE, 2));
                memset(shared + 2 * HUGE, 7, 1);
                memset(shared + 3 * HUGE, 7, 1);
                CHECK(filled(private, PAGE, 3) && private[HUGE] == 7);
        }
        pass();
}
