/*
 * An epoll instance that tasks share whose tables differ: each has something else under the number
 * that was watched. A task that waits in epoll_wait(2) is woken by its signalfd after all.
 */
#include "victim.h"
#include <sys/epoll.h>
#include <sys/signalfd.h>

static int poller, first[2], second[2], begun[2], seen[2];

static void add(int epoll, int fd, uint64_t data)
{
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};

        CALL(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

/* Watches the second pipe under the number that is the first one's in its parent. */
static void other(void)
{
        CALL(dup2(second[0], first[0]));
        close(second[0]);
        add(poller, first[0], 22);
        tell(begun[1]);
        wait_for("go");
        hear(seen[0]); /* else it would take away what epoll_wait(2) waits for */
        hear(first[0]);
}

/* Watches a pipe that only its parent has, then sleeps until a signal is there. */
static void sleeper(void)
{
        sigset_t set;
        struct epoll_event event;
        struct signalfd_siginfo info;
        int own = CALL(epoll_create1(0));

        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
        int signals = CALL(signalfd(-1, &set, 0));
        add(own, first[0], 1);
        add(own, signals, 2);
        close(first[0]);
        tell(begun[1]);
        CHECK(epoll_wait(own, &event, 1, -1) == 1 && event.data.u64 == 2);
        CHECK(read(signals, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGUSR1);
}

int main(void)
{
        struct epoll_event event;

        poller = CALL(epoll_create1(0));
        CALL(pipe(first));
        CALL(pipe(second));
        CALL(pipe(begun));
        CALL(pipe(seen));
        pid_t sleeping = child(sleeper);
        hear(begun[0]);
        until_blocked(sleeping);
        pid_t sharing = child(other);
        hear(begun[0]);
        ready();
        wait_for("go");
        CALL(kill(sleeping, SIGUSR1));
        join_child(sleeping);
        tell(second[1]);
        CHECK(epoll_wait(poller, &event, 1, -1) == 1 && event.data.u64 == 22);
        tell(seen[1]);
        join_child(sharing);
        CHECK(epoll_wait(poller, &event, 1, 0) == 0);
        tell(first[1]);
        CHECK(epoll_wait(poller, &event, 1, 0) == 0);
        pass();
}
