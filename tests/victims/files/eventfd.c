/* Event counters: what they count, semaphores, flags, one that two processes share. */
#include "victim.h"
#include <sys/eventfd.h>

static int shared;

static void reader(void)
{
        uint64_t value;

        wait_for("go");
        CHECK(read(shared, &value, 8) == 8 && value == 1);
}

int main(void)
{
        uint64_t value, most = UINT64_MAX - 1;
        int plain = CALL(eventfd(7, 0));
        int large = CALL(eventfd(0, EFD_NONBLOCK));
        int empty = CALL(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
        int late = CALL(eventfd(0, 0));
        int again = CALL(dup(plain));

        shared = CALL(eventfd(2, EFD_SEMAPHORE));
        CHECK(write(large, &most, 8) == 8);
        CALL(fcntl(late, F_SETFL, O_NONBLOCK | O_APPEND));
        pid_t other = child(reader);
        ready_and_wait();
        CHECK(read(again, &value, 8) == 8 && value == 7);
        value = 5;
        CHECK(write(again, &value, 8) == 8);
        CHECK(read(plain, &value, 8) == 8 && value == 5);
        CHECK(write(large, (uint64_t[]){1}, 8) == -1 && errno == EAGAIN);
        CHECK(read(large, &value, 8) == 8 && value == most);
        CHECK(read(empty, &value, 8) == -1 && errno == EAGAIN);
        CHECK(fcntl(empty, F_GETFD) == FD_CLOEXEC);
        CHECK((fcntl(late, F_GETFL) & (O_NONBLOCK | O_APPEND)) == (O_NONBLOCK | O_APPEND));
        CHECK((fcntl(plain, F_GETFL) & O_NONBLOCK) == 0);
        CHECK(read(shared, &value, 8) == 8 && value == 1);
        join_child(other);
        CALL(fcntl(shared, F_SETFL, O_NONBLOCK));
        CHECK(read(shared, &value, 8) == -1 && errno == EAGAIN);
        pass();
}
