/* Threads that sleep for days in calls which tell nobody what is left. Each line of `out` is the
 * length of one, in seconds. The last sleeps with a place for what is left. */
#include "victim.h"
#include <linux/futex.h>
#include <poll.h>

enum { NR = 5, FIRST = 1000000, STEP = 50000 };
static struct sleeper {
        pid_t tid;
        int woken;
} sleepers[NR];
static int zero;

static void sleep_in(int which)
{
        struct timespec length = {.tv_sec = FIRST + which * STEP}, left;

        switch (which) {
        case 0:
                nanosleep(&length, NULL);
                break;
        case 1:
                clock_nanosleep(CLOCK_BOOTTIME, 0, &length, NULL);
                break;
        case 2:
                poll(NULL, 0, length.tv_sec * 1000);
                break;
        case 3:
                syscall(SYS_futex, &zero, FUTEX_WAIT_PRIVATE, 0, &length, NULL, 0);
                break;
        default:
                nanosleep(&length, &left);
        }
}

static void *body(void *argument)
{
        struct sleeper *own = argument;

        *(volatile pid_t *)&own->tid = tid_of_caller();
        sleep_in(own - sleepers);
        own->woken = 1;
        return NULL;
}

int main(void)
{
        struct timespec some = {.tv_nsec = 500000000};
        pthread_t thread;

        for (int i = 0; i < NR; i++) {
                ZERO(pthread_create(&thread, NULL, body, &sleepers[i]));
                while (!*(volatile pid_t *)&sleepers[i].tid)
                        sched_yield();
                until_blocked(sleepers[i].tid);
                say("%d\n", FIRST + i * STEP);
        }
        CALL(clock_nanosleep(CLOCK_MONOTONIC, 0, &some, NULL));
        ready_and_wait();
        for (int i = 0; i < NR; i++)
                CHECK(!*(volatile int *)&sleepers[i].woken);
        pass();
}
