// refused: eventfd
/* An event counter. */
#include "victim.h"
#include <sys/eventfd.h>

int main(void)
{
        uint64_t value;
        int fd = CALL(eventfd(7, 0));

        ready_and_wait();
        CHECK(read(fd, &value, 8) == 8 && value == 7);
        pass();
}
