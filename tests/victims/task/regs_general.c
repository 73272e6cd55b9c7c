/* All sixteen general registers and the arithmetic flags of a thread that never leaves user mode.
 */
#include "victim.h"

/* Named by the assembly below. */
#define SEEN __attribute__((used)) static
SEEN volatile int stop, spinning;
SEEN uint64_t expected[16], found[16];
SEEN uint64_t found_flags, saved_rsp;

__attribute__((noinline)) static void spin(void)
{
        /* r15 points at what is loaded; stop is polled without touching any register or flag: the
         * flags are kept by jrcxz, which reads rcx only. */
        asm volatile("push %%rbp\n push %%rbx\n push %%r12\n push %%r13\n push %%r14\n push %%r15\n"
                     "mov %%rsp, saved_rsp(%%rip)\n"
                     "movl $1, spinning(%%rip)\n"
                     "mov expected+0(%%rip), %%rax\n mov expected+8(%%rip), %%rbx\n"
                     "mov expected+24(%%rip), %%rdx\n mov expected+32(%%rip), %%rsi\n"
                     "mov expected+40(%%rip), %%rdi\n mov expected+48(%%rip), %%rbp\n"
                     "mov expected+64(%%rip), %%r8\n mov expected+72(%%rip), %%r9\n"
                     "mov expected+80(%%rip), %%r10\n mov expected+88(%%rip), %%r11\n"
                     "mov expected+96(%%rip), %%r12\n mov expected+104(%%rip), %%r13\n"
                     "mov expected+112(%%rip), %%r14\n mov expected+120(%%rip), %%r15\n"
                     "pushq $0xad7\n popfq\n" /* CF PF AF ZF SF OF and IF */
                     "1: movslq stop(%%rip), %%rcx\n pause\n jrcxz 1b\n"
                     "mov %%rsp, found+56(%%rip)\n"
                     "mov %%rax, found+0(%%rip)\n mov %%rbx, found+8(%%rip)\n"
                     "mov %%rdx, found+24(%%rip)\n mov %%rsi, found+32(%%rip)\n"
                     "mov %%rdi, found+40(%%rip)\n mov %%rbp, found+48(%%rip)\n"
                     "mov %%r8, found+64(%%rip)\n mov %%r9, found+72(%%rip)\n"
                     "mov %%r10, found+80(%%rip)\n mov %%r11, found+88(%%rip)\n"
                     "mov %%r12, found+96(%%rip)\n mov %%r13, found+104(%%rip)\n"
                     "mov %%r14, found+112(%%rip)\n mov %%r15, found+120(%%rip)\n"
                     "mov saved_rsp(%%rip), %%rsp\n"
                     "pushfq\n popq found_flags(%%rip)\n"
                     "pop %%r15\n pop %%r14\n pop %%r13\n pop %%r12\n pop %%rbx\n pop %%rbp\n"
                     :
                     :
                     : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
}

static void *spinner(UNUSED void *unused)
{
        spin();
        return NULL;
}

int main(void)
{
        pthread_t thread;

        for (int i = 0; i < 16; i++)
                expected[i] = pattern(7, i);
        ZERO(pthread_create(&thread, NULL, spinner, NULL));
        while (!spinning)
                sched_yield();
        ready_and_wait();
        stop = 1;
        ZERO(pthread_join(thread, NULL));
        for (int i = 0; i < 16; i++)
                CHECK(i == 2 || i == 7 || found[i] == expected[i]);
        CHECK(found[7] == saved_rsp);
        CHECK((found_flags & 0x8d5) == 0x8d5);
        pass();
}
