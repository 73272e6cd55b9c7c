// dump: --file-locks
// restore: --file-locks
/* Locks of open file descriptions: two of one file, one of them shared with a child. */
#include "victim.h"

static int first, second, third;

static int free_at(int fd, short type, off_t start, off_t length)
{
        struct flock lock = {.l_type = type, .l_start = start, .l_len = length};

        CALL(fcntl(fd, F_OFD_GETLK, &lock));
        return lock.l_type == F_UNLCK;
}

static void take(int fd, short type, off_t start, off_t length)
{
        struct flock lock = {.l_type = type, .l_start = start, .l_len = length};

        CALL(fcntl(fd, F_OFD_SETLK, &lock));
}

/* Its descriptor is the parent's description, its lock is its own, too. */
static void check(void)
{
        CHECK(!free_at(third, F_WRLCK, 0, 10) && free_at(first, F_WRLCK, 0, 10));
        CHECK(free_at(third, F_WRLCK, 10, 10));
        CHECK(!free_at(third, F_WRLCK, 100, 1) && free_at(third, F_RDLCK, 100, 1));
        CHECK(!free_at(third, F_WRLCK, 1L << 40, 1) && free_at(second, F_WRLCK, 1L << 40, 1));
}

static void body(void)
{
        wait_for("go");
        check();
}

int main(void)
{
        first = made_file("data", 200, 1);
        second = CALL(open(in_folder("data"), O_RDWR));
        third = CALL(open(in_folder("data"), O_RDWR));
        take(first, F_WRLCK, 0, 10);
        take(second, F_RDLCK, 100, 0);
        pid_t pid = child(body);
        until_blocked(pid);
        ready_and_wait();
        check();
        join_child(pid);
        close(first);
        CHECK(free_at(third, F_WRLCK, 0, 10));
        pass();
}
