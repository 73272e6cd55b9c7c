// cflags: -lrt
// refused: "the kernel's log" userfaultfd "message queue"
/* Three things in two processes: all are named at once. */
#include "victim.h"
#include <mqueue.h>

static int told[2];

static void kid(void)
{
        CALL(syscall(SYS_userfaultfd, 1));
        tell(told[1]);
        wait_for("go");
}

int main(void)
{
        char name[32];

        CALL(pipe(told));
        pid_t pid = child(kid);
        hear(told[0]);
        CALL(open("/dev/kmsg", O_RDONLY));
        snprintf(name, sizeof(name), "/ckpt-victim-%d", getpid());
        CALL(mq_open(name, O_RDWR | O_CREAT, 0600, NULL));
        CALL(mq_unlink(name));
        ready_and_wait();
        join_child(pid);
        pass();
}
