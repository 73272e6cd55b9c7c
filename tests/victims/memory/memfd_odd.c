/* Memfds that end within a page: a short one, one of a page and a bit, one behind a hole. */
#include "victim.h"

static const size_t sizes[] = {100, PAGE + 1, 3 * PAGE - 1};
static int fds[3];

static void check(int at)
{
        static char text[4 * PAGE], expected[4 * PAGE];
        struct stat seen;

        CALL(fstat(fds[at], &seen));
        CHECK((size_t)seen.st_size == sizes[at]);
        CHECK(CALL(pread(fds[at], text, sizeof(text), 0)) == (ssize_t)sizes[at]);
        memset(expected, 0, sizeof(expected));
        memset(expected + (at == 2 ? 2 * PAGE : 0), 'a' + at, at == 2 ? PAGE : sizes[at]);
        CHECK(!memcmp(text, expected, sizes[at]));
}

int main(void)
{
        static char text[2 * PAGE];

        for (int i = 0; i < 3; i++) {
                fds[i] = CALL(memfd_create("odd", MFD_CLOEXEC));
                CALL(ftruncate(fds[i], (off_t)sizes[i]));
                memset(text, 'a' + i, sizeof(text));
                size_t start = i == 2 ? 2 * PAGE : 0, length = sizes[i] - start;
                CHECK(CALL(pwrite(fds[i], text, length, (off_t)start)) == (ssize_t)length);
        }
        char *mapped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
        CHECK(mapped != MAP_FAILED);
        ready_and_wait();
        for (int i = 0; i < 3; i++)
                check(i);
        CHECK(mapped[99] == 'a');
        mapped[0] = 'x';
        CHECK(CALL(pread(fds[0], text, 1, 0)) == 1 && text[0] == 'x');
        pass();
}
