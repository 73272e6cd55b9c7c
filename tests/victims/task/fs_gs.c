/* Thread local storage (FS base) of several threads, and a GS base set by arch_prctl. */
#include "victim.h"
#include <asm/prctl.h>

static __thread uint64_t mine = 1;
static uint64_t areas[4][8];
static pthread_barrier_t built;

static void check(int n)
{
        uint64_t through_gs, base;

        CHECK(mine == 100u + n);
        CALL(syscall(SYS_arch_prctl, ARCH_GET_GS, &base));
        CHECK(base == (uint64_t)areas[n]);
        asm volatile("mov %%gs:8, %0" : "=r"(through_gs));
        CHECK(through_gs == 1000u + n);
}

static void *body(void *argument)
{
        int n = (int)(intptr_t)argument;

        mine = 100 + n;
        areas[n][1] = 1000 + n;
        CALL(syscall(SYS_arch_prctl, ARCH_SET_GS, areas[n]));
        pthread_barrier_wait(&built);
        wait_for("go");
        check(n);
        return NULL;
}

int main(void)
{
        pthread_t threads[4];

        ZERO(pthread_barrier_init(&built, NULL, 5));
        for (int i = 0; i < 4; i++)
                ZERO(pthread_create(&threads[i], NULL, body, (void *)(intptr_t)i));
        pthread_barrier_wait(&built);
        mine = 7;
        ready_and_wait();
        CHECK(mine == 7);
        for (int i = 0; i < 4; i++)
                ZERO(pthread_join(threads[i], NULL));
        pass();
}
