/* mlockall(MCL_CURRENT | MCL_FUTURE) under a limit that leaves little: the dump must fit in. */
#include "victim.h"
#include <sys/resource.h>

int main(void)
{
        char *memory = anonymous(1 << 20);
        unsigned char resident[4];

        fill(memory, 1 << 20, 1);
        CALL(mlockall(MCL_CURRENT | MCL_FUTURE));
        ready_and_wait();
        CHECK(filled(memory, 1 << 20, 1));
        char *more = anonymous(4 * PAGE); /* locked, so there without a touch */
        CALL(mincore(more, 4 * PAGE, resident));
        CHECK(resident[0] & resident[1] & resident[2] & resident[3] & 1);
        pass();
}
