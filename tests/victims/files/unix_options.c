/* Options of UNIX sockets, and O_NONBLOCK of one description. */
#include "victim.h"
#include <sys/socket.h>
#include <sys/time.h>

static void set(int fd, int option, int value)
{
        CALL(setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value)));
}

static int get(int fd, int option)
{
        int value = -1;
        socklen_t length = sizeof(value);

        CALL(getsockopt(fd, SOL_SOCKET, option, &value, &length));
        return value;
}

int main(void)
{
        struct timeval half = {.tv_sec = 3, .tv_usec = 500000}, seen;
        struct linger linger = {.l_onoff = 1, .l_linger = 9}, lingers;
        socklen_t length = sizeof(seen);
        int ends[2];

        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
        set(ends[0], SO_SNDBUF, 20000);
        set(ends[0], SO_RCVBUF, 30000);
        set(ends[0], SO_PRIORITY, 4);
        set(ends[0], SO_RCVLOWAT, 7);
        set(ends[0], SO_KEEPALIVE, 1);
        set(ends[0], SO_REUSEADDR, 1);
        set(ends[1], SO_BROADCAST, 1);
        CALL(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &half, sizeof(half)));
        CALL(setsockopt(ends[0], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
        CALL(fcntl(ends[1], F_SETFL, O_NONBLOCK));
        int usual = get(ends[1], SO_SNDBUF);
        ready_and_wait();
        CHECK(get(ends[0], SO_SNDBUF) == 40000 && get(ends[0], SO_RCVBUF) == 60000);
        CHECK(get(ends[1], SO_SNDBUF) == usual);
        CHECK(get(ends[0], SO_PRIORITY) == 4 && get(ends[0], SO_RCVLOWAT) == 7);
        CHECK(get(ends[0], SO_KEEPALIVE) && get(ends[0], SO_REUSEADDR));
        CHECK(!get(ends[0], SO_BROADCAST) && get(ends[1], SO_BROADCAST));
        CALL(getsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &seen, &length));
        CHECK(seen.tv_sec == 3 && seen.tv_usec == 500000);
        length = sizeof(lingers);
        CALL(getsockopt(ends[0], SOL_SOCKET, SO_LINGER, &lingers, &length));
        CHECK(lingers.l_onoff == 1 && lingers.l_linger == 9);
        CHECK(CALL(fcntl(ends[1], F_GETFL)) == (O_RDWR | O_NONBLOCK));
        CHECK(CALL(fcntl(ends[0], F_GETFL)) == O_RDWR);
        pass();
}
