// refused: eventfd timerfd socket
/* Three things in two processes: all are named at once. */
#include "victim.h"
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

static int told[2];

static void kid(void)
{
        CALL(timerfd_create(CLOCK_MONOTONIC, 0));
        tell(told[1]);
        wait_for("go");
}

int main(void)
{
        CALL(pipe(told));
        pid_t pid = child(kid);
        hear(told[0]);
        CALL(eventfd(0, 0));
        CALL(socket(AF_UNIX, SOCK_DGRAM, 0));
        ready_and_wait();
        join_child(pid);
        pass();
}
