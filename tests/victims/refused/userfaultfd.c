// refused: userfaultfd
/* A process that serves its own faults: descriptor closed or not, its memory is registered. */
#include "victim.h"
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

int main(void)
{
        int fd = CALL(syscall(SYS_userfaultfd, O_CLOEXEC));
        struct uffdio_api api = {.api = UFFD_API};
        void *memory = anonymous(4 * PAGE);

        CALL(ioctl(fd, UFFDIO_API, &api));
        struct uffdio_register range = {.range = {(uintptr_t)memory, 4 * PAGE},
                                        .mode = UFFDIO_REGISTER_MODE_MISSING};
        CALL(ioctl(fd, UFFDIO_REGISTER, &range));
        ready_and_wait();
        pass();
}
