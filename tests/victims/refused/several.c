// refused: "the kernel's log" userfaultfd socket
/* Three things in two processes: all are named at once. */
#include "victim.h"
#include <sys/socket.h>

static int told[2];

static void kid(void)
{
        CALL(syscall(SYS_userfaultfd, 1));
        tell(told[1]);
        wait_for("go");
}

int main(void)
{
        CALL(pipe(told));
        pid_t pid = child(kid);
        hear(told[0]);
        CALL(open("/dev/kmsg", O_RDONLY));
        CALL(socket(AF_NETLINK, SOCK_RAW, 0));
        ready_and_wait();
        join_child(pid);
        pass();
}
