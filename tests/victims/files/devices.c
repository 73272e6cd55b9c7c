/* Memory devices: null, zero, full, random, urandom, as they were opened. */
#include "victim.h"

int main(void)
{
        char text[64];
        int null = CALL(open("/dev/null", O_RDWR)), zero = CALL(open("/dev/zero", O_RDONLY));
        int full = CALL(open("/dev/full", O_WRONLY)), random = CALL(open("/dev/urandom", O_RDONLY));
        char *mapped = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);

        CHECK(mapped != MAP_FAILED);
        mapped[PAGE] = 1;
        ready_and_wait();
        CHECK(read(null, text, 1) == 0 && write(null, text, 1) == 1);
        CHECK(read(zero, text, 64) == 64 && all_zero(text, 64));
        CHECK(write(full, text, 1) == -1 && errno == ENOSPC);
        CHECK(read(random, text, 64) == 64 && !all_zero(text, 64));
        CHECK(mapped[PAGE] == 1 && mapped[2 * PAGE] == 0);
        pass();
}
