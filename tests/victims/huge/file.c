// args: named
// args: removed
// dump: --ghost-limit 16777216
/* A file of a mounted hugetlbfs, with its name or without: shared and private mappings, and private
 * pages of its own. The test mounts it beside the victim's folder. */
#include "huge.h"

enum { PAGES = 4 };

int main(UNUSED int argc, char **argv)
{
        char path[600];
        char *shared, *private;
        int fd;

        CHECK(snprintf(path, sizeof(path), "%s", in_folder("../huge/file")) > 0);
        fd = CALL(open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        CALL(ftruncate(fd, PAGES * HUGE));
        shared = mmap(NULL, PAGES * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        private = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, HUGE);
        CHECK(shared != MAP_FAILED && private != MAP_FAILED);
        fill(shared, 2 * HUGE, 1);
        fill(private + PAGE, PAGE, 2);
        if (!strcmp(argv[1], "removed"))
                CALL(unlink(path));
        ready_and_wait();
        CHECK(filled(shared, 2 * HUGE, 1) && all_zero(shared + 2 * HUGE, HUGE));
        CHECK(!memcmp(private, shared + HUGE, PAGE) && filled(private + PAGE, PAGE, 2));
        shared[HUGE] ^= 1; /* the private copy has all of the page */
        shared[2 * HUGE] = 5;
        CHECK(private[0] == (shared[HUGE] ^ 1) && private[HUGE] == 5);
        struct stat st;
        CALL(fstat(fd, &st));
        CHECK(st.st_size == PAGES * (long)HUGE && st.st_blocks == 3 * (long)HUGE / 512);
        if (!strcmp(argv[1], "named"))
                CALL(unlink(path));
        pass();
}
