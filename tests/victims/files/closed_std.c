/* Standard input and error closed, output moved: number 0 and 2 stay free. */
#include "victim.h"

int main(void)
{
        close(0);
        close(2);
        ready_and_wait();
        CHECK(fcntl(0, F_GETFD) == -1 && fcntl(2, F_GETFD) == -1);
        CHECK(CALL(open("/dev/null", O_RDONLY)) == 0);
        pass();
}
