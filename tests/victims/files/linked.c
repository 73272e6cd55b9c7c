// args: file
// args: mapping
// dump: --link-remap
/* A file that lost the name it was opened by, and has another: what is written to it is seen there.
 */
#include "victim.h"

int main(int argc, char **argv)
{
        char text[2 * PAGE], link[64], other[512], *memory = NULL;
        struct stat before, now;

        CHECK(argc == 2);
        strcpy(other, in_folder("other"));
        int fd;
        if (argv[1][0] == 'p') {
                fd = CALL(open(getenv("VICTIM_FOLDER"), O_TMPFILE | O_RDWR, 0640));
                fill(text, sizeof(text), 1);
                CHECK(write(fd, text, sizeof(text)) == sizeof(text));
                snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
                CALL(linkat(AT_FDCWD, link, AT_FDCWD, other, AT_SYMLINK_FOLLOW));
        } else {
                fd = made_file("gone", 2 * PAGE, 1);
                CALL(linkat(AT_FDCWD, in_folder("gone"), AT_FDCWD, other, 0));
                CALL(unlink(in_folder("gone")));
        }
        CALL(fstat(fd, &before));
        CHECK(before.st_nlink == 1);
        if (argv[1][0] == 'm') {
                memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE);
                CHECK(memory != MAP_FAILED);
                close(fd);
        }
        ready_and_wait();
        if (memory) {
                memory[0] = 'm';
        } else {
                CALL(fstat(fd, &now));
                CHECK(now.st_ino == before.st_ino && now.st_dev == before.st_dev);
                CHECK(now.st_nlink <=
                      2); /* a dump that lets us run has made one more for its images */
                CHECK(pwrite(fd, "m", 1, PAGE) == 1);
        }
        fd = CALL(open(other, O_RDONLY));
        CHECK(pread(fd, text, 2 * PAGE, 0) == 2 * PAGE);
        CHECK(filled(text, PAGE, 1) && text[PAGE] == 'm');
        CHECK(access(in_folder("gone"), F_OK) < 0 && errno == ENOENT);
        pass();
}
