/*
 * Timers behind descriptors: what was left of them, ticks that nobody has read, every clock that
 * can be had, times of the wall clock, timers that are not set.
 */
#include "victim.h"
#include <sys/ioctl.h>
#include <sys/timerfd.h>

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif
#define HOUR 3600

static int made(int clock, int flags, int how, time_t first, long first_ns, time_t again)
{
        struct itimerspec times = {.it_value = {first, first_ns}, .it_interval = {again, 0}};
        int fd = CALL(timerfd_create(clock, flags));

        CALL(timerfd_settime(fd, how, &times, NULL));
        return fd;
}

/* Seconds left, rounded up, and the interval, which must be `again`. */
static time_t left(int fd, time_t again)
{
        struct itimerspec now;

        CALL(timerfd_gettime(fd, &now));
        CHECK(now.it_interval.tv_sec == again && now.it_interval.tv_nsec == 0);
        return now.it_value.tv_sec + (now.it_value.tv_nsec > 0);
}

/* Until it has ticked, without reading it. */
static void await_tick(int fd)
{
        struct itimerspec now;

        do
                CALL(timerfd_gettime(fd, &now));
        while (now.it_value.tv_sec || now.it_value.tv_nsec);
}

static int settime_flags(int fd)
{
        char path[64], line[128];
        unsigned int flags = 99;

        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
        FILE *file = fopen(path, "re");
        CHECK(file != NULL);
        while (fgets(line, sizeof(line), file))
                if (sscanf(line, "settime flags: %o", &flags) == 1)
                        break;
        fclose(file);
        return (int)flags;
}

int main(void)
{
        struct timespec wall, mono;
        struct itimerspec now;
        uint64_t ticks;

        CALL(clock_gettime(CLOCK_REALTIME, &wall));
        CALL(clock_gettime(CLOCK_MONOTONIC, &mono));
        int unset = CALL(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
        int once = made(CLOCK_MONOTONIC, TFD_CLOEXEC, 0, HOUR, 0, 0);
        int often = made(CLOCK_BOOTTIME, 0, 0, HOUR, 0, 7);
        int date = made(CLOCK_REALTIME, 0, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET,
                        wall.tv_sec + HOUR, wall.tv_nsec, 0);
        int later = made(CLOCK_MONOTONIC, 0, TFD_TIMER_ABSTIME, mono.tv_sec + HOUR, 0, 11);
        int over = made(CLOCK_MONOTONIC, TFD_NONBLOCK, 0, 0, 1, 0);
        int many = made(CLOCK_MONOTONIC, TFD_NONBLOCK, 0, 0, 1, HOUR);
        int alarmed = timerfd_create(CLOCK_BOOTTIME_ALARM, 0);

        if (alarmed >= 0)
                CALL(timerfd_settime(alarmed, 0, &(struct itimerspec){{0, 0}, {HOUR, 0}}, NULL));
        await_tick(over);
        CALL(ioctl(many, TFD_IOC_SET_TICKS, &(uint64_t){41}));
        ready_and_wait();
        CHECK(left(unset, 0) == 0);
        CHECK(read(unset, &ticks, 8) == -1 && errno == EAGAIN);
        CHECK(left(once, 0) > HOUR - 120 && left(once, 0) <= HOUR);
        CHECK(left(often, 7) > HOUR - 120 && left(often, 7) <= HOUR);
        CHECK(left(later, 11) > HOUR - 120 && left(later, 11) <= HOUR);
        CHECK(settime_flags(date) == (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET));
        CHECK(settime_flags(later) == TFD_TIMER_ABSTIME && settime_flags(once) == 0);
        /* The wall clock went on meanwhile: this one's date stays. */
        CALL(timerfd_gettime(date, &now));
        struct timespec moment;
        CALL(clock_gettime(CLOCK_REALTIME, &moment));
        int64_t drift = (moment.tv_sec + now.it_value.tv_sec - wall.tv_sec - HOUR) * 1000000000LL +
                        moment.tv_nsec + now.it_value.tv_nsec - wall.tv_nsec;
        CHECK(drift > -100000000 && drift < 100000000);
        CHECK(read(over, &ticks, 8) == 8 && ticks == 1);
        CHECK(read(over, &ticks, 8) == -1 && errno == EAGAIN);
        CHECK(read(many, &ticks, 8) == 8 && ticks == 41);
        CHECK(left(many, HOUR) > 0);
        if (alarmed >= 0)
                CHECK(left(alarmed, 0) > HOUR - 120 && left(alarmed, 0) <= HOUR);
        /* They still tick. */
        CALL(timerfd_settime(often, 0, &(struct itimerspec){{0, 1}, {0, 1}}, NULL));
        CHECK(read(often, &ticks, 8) == 8 && ticks >= 1);
        pass();
}
