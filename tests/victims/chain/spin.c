// args: 1
// args: 0
/* Threads that sleep in different calls, and as many as the argument says that compute. A sleeper
 * in epoll_wait(2) sees every interruption: there is one, when tracking begins, and no other. */
#include "victim.h"
#include <poll.h>
#include <sys/epoll.h>

static int epoll_fd;

static void *poll_forever(UNUSED void *unused)
{
        for (;;)
                poll(NULL, 0, -1);
        return NULL;
}

static void *epoll_forever(UNUSED void *unused)
{
        struct epoll_event event;

        for (int interrupted = 0;; interrupted++) {
                CHECK(interrupted <= 1);
                CHECK(epoll_wait(epoll_fd, &event, 1, -1) == -1 && errno == EINTR);
        }
        return NULL;
}

static void *compute(UNUSED void *unused)
{
        for (volatile unsigned long n = 0;; n++)
                ;
        return NULL;
}

int main(UNUSED int argc, char **argv)
{
        pthread_t thread;

        epoll_fd = CALL(epoll_create1(EPOLL_CLOEXEC));
        ZERO(pthread_create(&thread, NULL, poll_forever, NULL));
        for (int i = 0; i < 3; i++)
                ZERO(pthread_create(&thread, NULL, epoll_forever, NULL));
        for (int i = 0; i < atoi(argv[1]); i++)
                ZERO(pthread_create(&thread, NULL, compute, NULL));
        ready_and_wait();
        pass();
}
