// refused: fdinfo "tells of a descriptor"
/* An open file of /proc that tells of a descriptor. */
#include "victim.h"

int main(void)
{
        CALL(open("/proc/self/fdinfo/0", O_RDONLY));
        ready_and_wait();
        pass();
}
