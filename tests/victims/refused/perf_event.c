// refused: perf
/* A counter of the CPU clock. */
#include "victim.h"
#include <linux/perf_event.h>

int main(void)
{
        struct perf_event_attr attr = {
            .type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_CPU_CLOCK};

        CALL(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
        ready_and_wait();
        pass();
}
