// dump: --file-locks
// restore: --file-locks
/* POSIX record locks of parent and child on ranges of one file. */
#include "victim.h"

static int told[2], asked[2];

static int lock(int fd, short type, off_t start, off_t length)
{
        struct flock lock = {
            .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};

        return fcntl(fd, F_SETLK, &lock);
}

static pid_t holder(int fd, short type, off_t start, off_t length)
{
        struct flock lock = {
            .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};

        CALL(fcntl(fd, F_GETLK, &lock));
        return lock.l_type == F_UNLCK ? 0 : lock.l_pid;
}

static void kid(void)
{
        int fd = CALL(open(in_folder("data"), O_RDWR));

        CALL(lock(fd, F_WRLCK, 500, 100));
        tell(told[1]);
        wait_for("go");
        CHECK(holder(fd, F_WRLCK, 0, 100) == getppid());
        CHECK(holder(fd, F_RDLCK, 200, 50) == 0);
        CHECK(holder(fd, F_WRLCK, 200, 50) == getppid());
        CHECK(holder(fd, F_WRLCK, 1 << 20, 1) == getppid());
        CHECK(holder(fd, F_WRLCK, 300, 100) == 0);
        tell(told[1]);
        hear(asked[0]);
}

int main(void)
{
        int fd = made_file("data", 1000, 1);

        CALL(pipe(told));
        CALL(pipe(asked));
        pid_t pid = child(kid);
        hear(told[0]);
        CALL(lock(fd, F_WRLCK, 0, 100));
        CALL(lock(fd, F_RDLCK, 200, 50));
        CALL(lock(fd, F_WRLCK, 2000, 0)); /* to the end of the file, wherever that is */
        ready_and_wait();
        CHECK(holder(fd, F_RDLCK, 500, 100) == pid);
        hear(told[0]);
        tell(asked[1]);
        join_child(pid);
        CHECK(holder(fd, F_RDLCK, 500, 100) == 0);
        pass();
}
