/* SPDX-License-Identifier: GPL-2.0-only
 *
 * System calls on x86-64: number in rax, arguments in rdi rsi rdx r10 r8 r9, rcx and r11 lost.
 */
#ifndef CKPT_SYSCALL_H
#define CKPT_SYSCALL_H

#include <asm/unistd.h>

static inline long ckpt_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
        register long r10 __asm__("r10") = d;
        register long r8 __asm__("r8") = e;
        register long r9 __asm__("r9") = f;
        long result;

        __asm__ volatile("syscall"
                         : "=a"(result)
                         : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                         : "rcx", "r11", "memory");
        return result;
}

#endif
