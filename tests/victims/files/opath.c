/* O_PATH descriptors of a file, a directory, a symbolic link and a FIFO. */
#include "victim.h"

int main(void)
{
        char text[64] = "";

        close(made_file("data", 100, 1));
        CALL(symlink("data", in_folder("link")));
        int file = CALL(open(in_folder("data"), O_PATH));
        int directory = CALL(open(in_folder("."), O_PATH | O_DIRECTORY));
        int link = CALL(open(in_folder("link"), O_PATH | O_NOFOLLOW));
        int fifo = CALL(open(in_folder("go"), O_PATH));
        ready_and_wait();
        CHECK(read(file, text, 1) == -1 && errno == EBADF);
        CHECK(CALL(readlinkat(link, "", text, sizeof(text))) == 4 && !strcmp(text, "data"));
        close(CALL(openat(directory, "data", O_RDONLY)));
        struct stat stat;
        CALL(fstatat(fifo, "", &stat, AT_EMPTY_PATH));
        CHECK(S_ISFIFO(stat.st_mode));
        CHECK(fcntl(file, F_GETFL) & O_PATH);
        pass();
}
