// refused: cwd /proc/ "a /proc file of a process"
/* A working directory in /proc that is the process's own. */
#include "victim.h"

int main(void)
{
        CALL(chdir("/proc/self"));
        ready_and_wait();
        pass();
}
