/* A one-shot watch of epoll that has fired, and whose pipe is empty again. */
#include "victim.h"
#include <sys/epoll.h>

int main(void)
{
        int ends[2], poller = CALL(epoll_create1(0));
        struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 5};

        CALL(pipe(ends));
        CALL(epoll_ctl(poller, EPOLL_CTL_ADD, ends[0], &event));
        tell(ends[1]);
        CHECK(epoll_wait(poller, &event, 1, 0) == 1);
        hear(ends[0]);
        ready_and_wait();
        tell(ends[1]);
        CHECK(epoll_wait(poller, &event, 1, 0) == 0);
        event.events = EPOLLIN;
        CALL(epoll_ctl(poller, EPOLL_CTL_MOD, ends[0], &event));
        CHECK(epoll_wait(poller, &event, 1, 0) == 1 && event.data.u64 == 5);
        pass();
}
