/* The vdso works where it was: its functions give what the system calls give. */
#include "victim.h"
#include <sys/auxv.h>
#include <sys/time.h>

int main(void)
{
        unsigned long vdso = getauxval(AT_SYSINFO_EHDR);
        struct timeval now;
        struct timespec t;

        CHECK(vdso && !memcmp((void *)vdso, "\177ELF", 4));
        ready_and_wait();
        CHECK(!memcmp((void *)vdso, "\177ELF", 4));
        CALL(gettimeofday(&now, NULL));
        CALL(syscall(SYS_clock_gettime, CLOCK_REALTIME, &t));
        CHECK(t.tv_sec - now.tv_sec <= 1);
        /* time() is of the last tick: it may be behind the clock by one second boundary. */
        CHECK(labs(time(NULL) - t.tv_sec) <= 1);
        pass();
}
