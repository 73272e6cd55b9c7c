// refused: /proc/
/* An open file of /proc that means this very process. */
#include "victim.h"

int main(void)
{
        CALL(open("/proc/self/status", O_RDONLY));
        ready_and_wait();
        pass();
}
