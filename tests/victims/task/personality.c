/* The execution domain of the process. */
#include "victim.h"
#include <sys/personality.h>

int main(void)
{
        unsigned long wanted = PER_LINUX | ADDR_NO_RANDOMIZE | STICKY_TIMEOUTS;

        CALL(personality(wanted));
        ready_and_wait();
        CHECK((unsigned long)personality(0xffffffff) == wanted);
        pass();
}
