// A read(2) that has begun and can't end, and does not stand when interrupted: its buffer is a page
// that nobody fills (userfaultfd) before the test says so. Then it must be whole.
#include "victim.h"

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

static char *page;
static int ends[2];
static _Atomic pid_t reader;

static void *in_read(void *nothing)
{
        reader = tid_of_caller();
        CHECK(CALL(read(ends[0], page, 5)) == 5);
        return nothing;
}

int main(void)
{
        int uffd = (int)CALL(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
        struct uffdio_api api = {.api = UFFD_API};
        struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};
        struct uffdio_zeropage zero = {0};

        page = anonymous(PAGE);
        CALL(ioctl(uffd, UFFDIO_API, &api));
        range.range.start = (uintptr_t)page;
        range.range.len = PAGE;
        CALL(ioctl(uffd, UFFDIO_REGISTER, &range));
        CALL(pipe2(ends, O_CLOEXEC));
        CHECK(write(ends[1], "whole", 5) == 5);

        pthread_t thread = started_thread(in_read, NULL);

        while (!reader)
                sched_yield();
        until_blocked(reader);
        ready_and_wait();
        zero.range = range.range;
        CALL(ioctl(uffd, UFFDIO_ZEROPAGE, &zero));
        ZERO(pthread_join(thread, NULL));
        CHECK(!memcmp(page, "whole", 5));
        pass();
}
