// cflags: -lrt
// refused: message queue
/* A POSIX message queue. */
#include "victim.h"
#include <mqueue.h>

int main(void)
{
        char name[32];

        snprintf(name, sizeof(name), "/ckpt-victim-%d", getpid());
        CALL(mq_open(name, O_RDWR | O_CREAT, 0600, NULL));
        CALL(mq_unlink(name));
        ready_and_wait();
        pass();
}
