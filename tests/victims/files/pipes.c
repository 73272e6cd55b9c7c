/* Pipes: data in flight, a full one, an empty one, a size of their own, one end only. */
#include "victim.h"

static ssize_t fill_up(int fd)
{
        char block[4096];
        ssize_t all = 0, got;

        CALL(fcntl(fd, F_SETFL, O_NONBLOCK));
        memset(block, 'f', sizeof(block));
        while ((got = write(fd, block, sizeof(block))) > 0)
                all += got;
        CHECK(errno == EAGAIN);
        return all;
}

int main(void)
{
        int some[2], full[2], empty[2], sized[2], no_writer[2], no_reader[2];
        char text[8192];

        CALL(pipe(some));
        CHECK(write(some[1], "in flight", 9) == 9);
        CALL(pipe(full));
        ssize_t in_full = fill_up(full[1]);
        CALL(pipe2(empty, O_NONBLOCK | O_CLOEXEC));
        CALL(pipe(sized));
        CHECK(CALL(fcntl(sized[1], F_SETPIPE_SZ, 262144)) == 262144);
        CHECK(write(sized[1], "sized", 5) == 5);
        CALL(pipe(no_writer));
        CHECK(write(no_writer[1], "last words", 10) == 10);
        close(no_writer[1]);
        CALL(pipe(no_reader));
        close(no_reader[0]);
        CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
        ready_and_wait();
        CHECK(CALL(read(some[0], text, 100)) == 9 && !memcmp(text, "in flight", 9));
        CHECK(write(full[1], "x", 1) == -1 && errno == EAGAIN);
        for (ssize_t got = 0; got < in_full;) {
                ssize_t n = CALL(read(full[0], text, sizeof(text)));
                CHECK(n > 0 && text[0] == 'f' && text[n - 1] == 'f');
                got += n;
        }
        CHECK(read(empty[0], text, 1) == -1 && errno == EAGAIN);
        CHECK(fcntl(sized[0], F_GETPIPE_SZ) == 262144);
        CHECK(CALL(read(sized[0], text, 100)) == 5);
        CHECK(CALL(read(no_writer[0], text, 100)) == 10 && !memcmp(text, "last words", 10));
        CHECK(CALL(read(no_writer[0], text, 100)) == 0);
        CHECK(write(no_reader[1], "x", 1) == -1 && errno == EPIPE);
        pass();
}
