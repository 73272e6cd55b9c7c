// needs: cap_lease
// args: read
// args: write
// dump: --file-locks
// restore: --file-locks
/* A lease: looking at it must not break it, and who opens the file afterwards makes it be told. */
#include "victim.h"

static volatile sig_atomic_t told;

static void handler(int signal)
{
        told = signal;
}

int main(int argc, char **argv)
{
        CHECK(argc == 2);
        close(made_file("data", 100, 1));
        int type = argv[1][0] == 'r' ? F_RDLCK : F_WRLCK;
        int fd = CALL(open(in_folder("data"), type == F_RDLCK ? O_RDONLY : O_RDWR));

        CHECK(signal(SIGIO, handler) != SIG_ERR);
        CALL(fcntl(fd, F_SETLEASE, type));
        ready_and_wait();
        CHECK(!told && fcntl(fd, F_GETLEASE) == type);
        CHECK(open(in_folder("data"), O_WRONLY | O_NONBLOCK) < 0 && errno == EWOULDBLOCK);
        CHECK(told == SIGIO);
        CALL(fcntl(fd, F_SETLEASE, F_UNLCK));
        close(CALL(open(in_folder("data"), O_WRONLY | O_NONBLOCK)));
        pass();
}
