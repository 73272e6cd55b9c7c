// refused: epoll
/* An epoll instance that watches a pipe. */
#include "victim.h"
#include <sys/epoll.h>

int main(void)
{
        int ends[2], poller = CALL(epoll_create1(0));
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = 42};

        CALL(pipe(ends));
        CALL(epoll_ctl(poller, EPOLL_CTL_ADD, ends[0], &event));
        ready_and_wait();
        tell(ends[1]);
        CHECK(epoll_wait(poller, &event, 1, 0) == 1 && event.data.u64 == 42);
        pass();
}
