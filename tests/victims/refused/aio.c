// refused: aio
/* A context of the kernel's asynchronous input and output. */
#include "victim.h"
#include <linux/aio_abi.h>

int main(void)
{
        aio_context_t context = 0;

        CALL(syscall(SYS_io_setup, 8, &context));
        ready_and_wait();
        pass();
}
