// refused: /proc/1/status "process 1, which is outside the tree"
// unseen: /proc/1/status "process 1, which is outside the tree"
/* An open file of /proc that tells of a process outside of the tree. */
#include "victim.h"

int main(void)
{
        CALL(open("/proc/1/status", O_RDONLY));
        ready_and_wait();
        pass();
}
