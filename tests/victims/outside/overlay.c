/*
 * Files on an overlayfs: of the layer below and of that above, removed ones of both, mapped ones,
 * and the working directory.
 */
#include "victim.h"

static void holds(int fd, const char *wanted)
{
        char text[16];
        ssize_t length = (ssize_t)strlen(wanted);

        CHECK(CALL(pread(fd, text, sizeof(text), 0)) == length);
        CHECK(memcmp(text, wanted, length) == 0);
}

int main(void)
{
        CALL(chdir("merged"));
        int below = CALL(open("below", O_RDONLY));
        int gone_below = CALL(open("gone", O_RDONLY));
        int above = CALL(open("above", O_RDWR | O_CREAT, 0600));
        int gone_above = CALL(open("made", O_RDWR | O_CREAT, 0640));

        CHECK(write(above, "above", 5) == 5 && write(gone_above, "was above", 9) == 9);
        char *from_below = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, below, 0);
        char *from_gone = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, gone_below, 0);
        char *from_above = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, above, 0);
        CHECK(from_below != MAP_FAILED && from_gone != MAP_FAILED && from_above != MAP_FAILED);
        CALL(unlink("gone"));
        CALL(unlink("made"));
        CALL(chdir("folder"));
        ready_and_wait();
        CHECK(access("../below", R_OK) == 0 && access("inside", R_OK) == 0);
        CHECK(access("../gone", F_OK) < 0 && access("../made", F_OK) < 0);
        holds(below, "below");
        holds(gone_below, "was below");
        holds(gone_above, "was above");
        CHECK(!memcmp(from_below, "below", 5) && !memcmp(from_gone, "was below", 9));
        from_above[0] = 'A';
        CHECK(write(above, " more", 5) == 5);
        holds(above, "Above more");
        pass();
}
