// cycles: 3
/* CLOCK_MONOTONIC and CLOCK_BOOTTIME go on from where they were: never back, and not ahead by more
 * than the time that really passed. */
#include "victim.h"

static double at(clockid_t which, int raw)
{
        struct timespec t;

        if (raw) /* past the vdso, which reads the offset of its time namespace by itself */
                CALL(syscall(SYS_clock_gettime, which, &t));
        else
                CALL(clock_gettime(which, &t));
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(void)
{
        clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW,
                              CLOCK_MONOTONIC_COARSE};
        double before[4], wall = at(CLOCK_REALTIME, 0);

        for (int i = 0; i < 4; i++)
                before[i] = at(clocks[i], 0);
        ready_and_wait();
        for (int i = 0; i < 4; i++) {
                double first = at(clocks[i], 0), second = at(clocks[i], 1);
                double passed = at(CLOCK_REALTIME, 0) - wall;

                CHECK(first >= before[i] && second >= before[i]);
                CHECK(first - before[i] <= passed + 0.1);
                CHECK(second - first < 0.1 && second - first > -0.1);
        }
        pass();
}
