/* POSIX timers: their numbers, clocks, whom they notify with what, intervals and what is left. */
#include "victim.h"

enum { NR = 8, GAP = 5 };

struct kernel_event {
        union sigval value;
        int signo;
        int notify;
        int tid;
        char rest[44];
};

static const int clocks[NR] = {
    CLOCK_MONOTONIC,          CLOCK_REALTIME, CLOCK_BOOTTIME, CLOCK_TAI, 0, 0,
    CLOCK_PROCESS_CPUTIME_ID, CLOCK_MONOTONIC};
static int numbers[NR];
static pid_t other;

static int made(int clock, int notify, int signo, int value)
{
        struct kernel_event event = {
            .value.sival_int = value, .signo = signo, .notify = notify, .tid = other};
        int number = -1;

        CALL(syscall(SYS_timer_create, clock, &event, &number));
        return number;
}

static void *body(void *built)
{
        siginfo_t info;
        struct timespec limit = {.tv_sec = 20};
        sigset_t set;

        other = tid_of_caller();
        pthread_barrier_wait(built);
        wait_for("go");
        pthread_barrier_wait(built);
        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN + 2);
        CHECK(CALL(sigtimedwait(&set, &info, &limit)) == SIGRTMIN + 2);
        CHECK(info.si_code == SI_TIMER && info.si_value.sival_int == 77);
        return NULL;
}

int main(void)
{
        pthread_barrier_t built;
        struct timespec limit = {.tv_sec = 20};
        pthread_t thread;
        clockid_t clock;
        siginfo_t info;
        sigset_t set;

        sigemptyset(&set);
        for (int i = 0; i < 5; i++)
                sigaddset(&set, SIGRTMIN + i);
        CALL(sigprocmask(SIG_BLOCK, &set, NULL));
        ZERO(pthread_barrier_init(&built, NULL, 2));
        ZERO(pthread_create(&thread, NULL, body, &built));
        pthread_barrier_wait(&built);
        for (int i = 0; i < NR; i++) {
                for (int gap = 0; gap < GAP; gap++)
                        CALL(syscall(SYS_timer_delete, made(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0)));
                clock = clocks[i];
                if (i == 4)
                        ZERO(pthread_getcpuclockid(thread, &clock));
                if (i == 5)
                        ZERO(clock_getcpuclockid(0, &clock));
                numbers[i] = made(clock,
                                  i == 1   ? SIGEV_NONE
                                  : i == 7 ? SIGEV_THREAD_ID
                                           : 0,
                                  SIGRTMIN + (i == 7 ? 2 : i == 3), i == 7 ? 77 : 100 + i);
                struct itimerspec far = {.it_value.tv_sec = 1000 + i, .it_interval.tv_nsec = 9999};
                if (i != 2)
                        CALL(syscall(SYS_timer_settime, numbers[i], 0, &far, NULL));
        }
        ready_and_wait();
        for (int i = 0; i < NR; i++) {
                struct itimerspec left;

                CALL(syscall(SYS_timer_gettime, numbers[i], &left));
                if (i == 2) {
                        CHECK(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);
                        continue;
                }
                CHECK(left.it_value.tv_sec > 900 && left.it_value.tv_sec <= 1000 + i);
                CHECK(left.it_interval.tv_sec == 0 && left.it_interval.tv_nsec == 9999);
        }
        struct itimerspec soon = {.it_value.tv_nsec = 1000};
        CALL(syscall(SYS_timer_settime, numbers[3], 0, &soon, NULL));
        CHECK(CALL(sigtimedwait(&set, &info, &limit)) == SIGRTMIN + 1);
        CHECK(info.si_code == SI_TIMER && info.si_value.sival_int == 103);
        CHECK(info.si_timerid == numbers[3]);
        CALL(syscall(SYS_timer_settime, numbers[7], 0, &soon, NULL));
        pthread_barrier_wait(&built);
        ZERO(pthread_join(thread, NULL));
        CHECK(syscall(SYS_timer_delete, numbers[0]) == 0);
        pass();
}
