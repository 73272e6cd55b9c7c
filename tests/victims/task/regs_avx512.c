// needs: avx512f avx512bw
/* Thirty-two zmm registers and eight mask registers live in a thread that stays in user mode. */
#include "victim.h"

static volatile int stop, spinning;
static uint8_t expected[32][64], found[32][64];
static uint64_t masks[8], found_masks[8];

#define ZMM "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"

__attribute__((target("avx512f,avx512bw"))) static void *spinner(UNUSED void *unused)
{
        asm volatile(".irp n," ZMM "\n vmovdqu64 \\n*64(%[in]), %%zmm\\n\n .endr\n"
                     ".irp n,0,1,2,3,4,5,6,7\n kmovq \\n*8(%[kin]), %%k\\n\n .endr\n"
                     "movl $1, %[spinning]\n"
                     "1: pause\n cmpl $0, %[stop]\n je 1b\n"
                     ".irp n," ZMM "\n vmovdqu64 %%zmm\\n, \\n*64(%[out])\n .endr\n"
                     ".irp n,0,1,2,3,4,5,6,7\n kmovq %%k\\n, \\n*8(%[kout])\n .endr\n"
                     "vzeroupper\n"
                     : [spinning] "=m"(spinning)
                     : [in] "r"(expected), [out] "r"(found), [kin] "r"(masks),
                       [kout] "r"(found_masks), [stop] "m"(stop)
                     : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                       "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",
                       "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23",
                       "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1",
                       "k2", "k3", "k4", "k5", "k6", "k7");
        return NULL;
}

int main(void)
{
        pthread_t thread;

        fill(expected, sizeof(expected), 5);
        fill(masks, sizeof(masks), 6);
        ZERO(pthread_create(&thread, NULL, spinner, NULL));
        while (!spinning)
                sched_yield();
        ready_and_wait();
        stop = 1;
        ZERO(pthread_join(thread, NULL));
        CHECK(memcmp(expected, found, sizeof(found)) == 0);
        CHECK(memcmp(masks, found_masks, sizeof(masks)) == 0);
        pass();
}
