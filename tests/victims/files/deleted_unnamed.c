// args: temporary
// args: gone-folder
// args: replaced
// differs: */fd/*/what -- there was no name, or it can't be had: taken by now, or its folder is
// gone
/* Files that never had a name, or that can't have it again for a moment. */
#include "nameless.h"

static void temporary(void)
{
        char link[64];

        fd = CALL(open(getenv("VICTIM_FOLDER"), O_TMPFILE | O_RDWR | O_APPEND, 0640));
        CHECK(write(fd, "before", 6) == 6);
        remember();
        ready_and_wait();
        check_as_before();
        CHECK(write(fd, " after", 6) == 6);
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        CALL(linkat(AT_FDCWD, link, AT_FDCWD, in_folder("published"), AT_SYMLINK_FOLLOW));
        char text[13] = "";
        fd = CALL(open(in_folder("published"), O_RDONLY));
        CHECK(read(fd, text, 12) == 12 && strcmp(text, "before after") == 0);
}

static void gone_folder(void)
{
        char text[PAGE];

        CALL(mkdir(in_folder("folder"), 0755));
        fd = made_file("folder/gone", PAGE, 1);
        CALL(unlink(in_folder("folder/gone")));
        CALL(rmdir(in_folder("folder")));
        remember();
        ready_and_wait();
        check_as_before();
        CHECK(access(in_folder("folder"), F_OK) < 0 && errno == ENOENT);
        CHECK(pread(fd, text, PAGE, 0) == PAGE && filled(text, PAGE, 1));
}

/* Another file has taken its name: that one is left alone. */
static void replaced(void)
{
        char text[PAGE], name[512];

        fd = made_file("gone", PAGE, 1);
        close(made_file("new", PAGE, 2));
        strcpy(name, in_folder("new"));
        CALL(rename(name, in_folder("gone")));
        CALL(fstat(fd, &before));
        CHECK(before.st_nlink == 0);
        ready_and_wait();
        CHECK(pread(fd, text, PAGE, 0) == PAGE && filled(text, PAGE, 1));
        fd = CALL(open(in_folder("gone"), O_RDONLY));
        CHECK(pread(fd, text, PAGE, 0) == PAGE && filled(text, PAGE, 2));
}

int main(int argc, char **argv)
{
        CHECK(argc == 2);
        argv[1][0] == 't' ? temporary() : argv[1][0] == 'g' ? gone_folder() : replaced();
        pass();
}
