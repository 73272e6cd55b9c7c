// refused: /dev/zero
/* A private mapping of /dev/zero, an old way to get memory. */
#include "victim.h"

int main(void)
{
        int zero = CALL(open("/dev/zero", O_RDWR));
        char *mapped = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);

        CHECK(mapped != MAP_FAILED);
        close(zero);
        mapped[PAGE] = 1;
        ready_and_wait();
        CHECK(mapped[PAGE] == 1 && mapped[2 * PAGE] == 0);
        pass();
}
