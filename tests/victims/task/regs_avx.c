// needs: avx2
/* Sixteen ymm registers, MXCSR live in a thread that never leaves user mode. */
#include "victim.h"

static volatile int stop, spinning;
static uint8_t expected[16][32], found[16][32];
static uint32_t mxcsr = 0x7f80 | 0x8040, found_mxcsr; /* towards zero, DAZ, FTZ */

__attribute__((target("avx2"))) static void *spinner(UNUSED void *unused)
{
        asm volatile("ldmxcsr %[mxcsr]\n"
                     ".set i, 0\n"
                     ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
                     "vmovdqu \\n*32(%[in]), %%ymm\\n\n"
                     ".endr\n"
                     "movl $1, %[spinning]\n"
                     "1: pause\n cmpl $0, %[stop]\n je 1b\n"
                     ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
                     "vmovdqu %%ymm\\n, \\n*32(%[out])\n"
                     ".endr\n"
                     "stmxcsr %[found]\n"
                     "vzeroupper\n"
                     : [spinning] "=m"(spinning), [found] "=m"(found_mxcsr)
                     : [in] "r"(expected), [out] "r"(found), [mxcsr] "m"(mxcsr), [stop] "m"(stop)
                     : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                       "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                       "xmm15");
        return NULL;
}

int main(void)
{
        pthread_t thread;

        fill(expected, sizeof(expected), 3);
        ZERO(pthread_create(&thread, NULL, spinner, NULL));
        while (!spinning)
                sched_yield();
        ready_and_wait();
        stop = 1;
        ZERO(pthread_join(thread, NULL));
        CHECK(memcmp(expected, found, sizeof(found)) == 0);
        CHECK(found_mxcsr == mxcsr);
        pass();
}
