// refused: pidfd
/* A descriptor of a process. */
#include "victim.h"

int main(void)
{
        CALL(syscall(SYS_pidfd_open, getpid(), 0));
        ready_and_wait();
        pass();
}
