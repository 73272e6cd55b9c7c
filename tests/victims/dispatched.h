/*
 * Threads whose system calls go to a handler of theirs (PR_SET_SYSCALL_USER_DISPATCH), which makes
 * them itself and marks the answers. The selector says "handler" at all other times.
 */
#ifndef DISPATCHED_H
#define DISPATCHED_H

#include "victim.h"
#include <sys/ucontext.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
enum { DISPATCH_OFF, DISPATCH_FROM_RANGE, DISPATCH_FROM_ELSEWHERE };
enum { LET_PASS, TO_HANDLER };
#define SA_RESTORER 0x04000000
#define DISPATCHED  2 /* si_code of SIGSYS */
#define MARK        1000000000L

static __thread volatile char selector;
static __thread volatile long nr_handled;

/* rt_sigreturn that passes whatever the selector says, and a call from another place than libc. */
extern char restorer[], restorer_end[], bare_call[], bare_call_end[];
asm(".text\n"
    "restorer: mov $15, %eax\n syscall\n ud2\n"
    "restorer_end:\n"
    "bare_call: mov %rdi, %rax\n mov %rsi, %rdi\n mov %rdx, %rsi\n mov %rcx, %rdx\n syscall\n ret\n"
    "bare_call_end:\n");

/* What the kernel returns, -errno included. */
UNUSED static long bare(long number, const void *first, long second)
{
        long (*call)(long, const void *, long, long) = (void *)bare_call;

        return call(number, first, second, 0);
}

/* Makes the call from the place of the C library, and marks what getppid says. */
static void handle(int signo, siginfo_t *info, void *context)
{
        greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
        int error = errno;

        selector = LET_PASS;
        CHECK(signo == SIGSYS && info->si_code == DISPATCHED);
        CHECK(info->si_syscall == regs[REG_RAX]);
        nr_handled++;
        long result = syscall(info->si_syscall, regs[REG_RDI], regs[REG_RSI], regs[REG_RDX],
                              regs[REG_R10], regs[REG_R8], regs[REG_R9]);
        if (result == -1)
                result = -errno;
        regs[REG_RAX] = info->si_syscall == SYS_getppid ? result + MARK : result;
        errno = error;
        selector = TO_HANDLER;
}

/* For all threads, whose masks stay as they are; the C library's restorer would be dispatched
 * itself. */
UNUSED static void install_handler(void)
{
        struct {
                void (*handler)(int, siginfo_t *, void *);
                unsigned long flags;
                void *restorer;
                uint64_t mask;
        } action = {handle, SA_SIGINFO | SA_NODEFER | SA_RESTORER, restorer, 0};

        CALL(syscall(SYS_rt_sigaction, SIGSYS, &action, NULL, 8));
}

/* From here on: nothing of the C library that blocks signals around its calls. */
UNUSED static void dispatch(int mode, const char *from, const char *upto)
{
        nr_handled = 0;
        CALL(prctl(PR_SET_SYSCALL_USER_DISPATCH, mode, from, upto - from, &selector));
        selector = TO_HANDLER;
}

UNUSED static void dispatch_no_more(void)
{
        selector = LET_PASS;
        CALL(prctl(PR_SET_SYSCALL_USER_DISPATCH, DISPATCH_OFF, 0, 0, 0));
}
#endif
