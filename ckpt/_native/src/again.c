/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <sys/ptrace.h>
#include <sys/user.h>

#define USER_CS        0x33 /* 64-bit code, which has these numbers */
#define ERESTARTNOHAND 514  /* include/linux/errno.h: arch_do_signal_or_restart() knows it */

#define REG(name) offsetof(struct user, regs.name)

static int never_made_again(long number)
{
        switch (number) {
        case __NR_epoll_wait:
        case __NR_epoll_pwait:
        case __NR_epoll_pwait2:
        case __NR_rt_sigtimedwait:
        case __NR_semop:
        case __NR_semtimedop:
        case __NR_io_getevents:
        case __NR_io_uring_enter:
        /* With SO_RCVTIMEO or SO_SNDTIMEO: sock_intr_errno(). */
        case __NR_read:
        case __NR_readv:
        case __NR_recvfrom:
        case __NR_recvmsg:
        case __NR_recvmmsg:
        case __NR_write:
        case __NR_writev:
        case __NR_sendto:
        case __NR_sendmsg:
        case __NR_sendmmsg:
        case __NR_accept:
        case __NR_accept4:
        case __NR_connect:
                return 1;
        default:
                return 0;
        }
}

/* One register; a failure reads as 0, which asks for nothing. */
static long peek(int tid, size_t offset)
{
        long word = 0;

        ckpt_fault_point();
        return syscall(__NR_ptrace, PTRACE_PEEKUSER, (long)tid, offset, &word) ? 0 : word;
}

void ckpt_trace_again(int tid)
{
        if (peek(tid, REG(rax)) != -EINTR || !never_made_again(peek(tid, REG(orig_rax))) ||
            peek(tid, REG(cs)) != USER_CS)
                return;
        ckpt_fault_point();
        syscall(__NR_ptrace, PTRACE_POKEUSER, (long)tid, REG(rax), (long)-ERESTARTNOHAND);
}
