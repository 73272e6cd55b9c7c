/* Memory devices: null, zero, full, random, urandom, as they were opened. */
#include "victim.h"

int main(void)
{
        char text[64];
        int null = CALL(open("/dev/null", O_RDWR)), zero = CALL(open("/dev/zero", O_RDONLY));
        int full = CALL(open("/dev/full", O_WRONLY)), random = CALL(open("/dev/urandom", O_RDONLY));
        ready_and_wait();
        CHECK(read(null, text, 1) == 0 && write(null, text, 1) == 1);
        CHECK(read(zero, text, 64) == 64 && all_zero(text, 64));
        CHECK(write(full, text, 1) == -1 && errno == ENOSPC);
        CHECK(read(random, text, 64) == 64 && !all_zero(text, 64));
        pass();
}
