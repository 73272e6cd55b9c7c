/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"
#include "stopwait.h"

#include <elf.h>
#include <linux/ptrace.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif
#ifndef PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
#define PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG 0x4210
#define PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211
#endif
#ifndef PTRACE_SECCOMP_GET_METADATA
#define PTRACE_SECCOMP_GET_METADATA 0x420d
#endif
#ifndef PTRACE_GET_RSEQ_CONFIGURATION
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f
struct ptrace_rseq_configuration {
        uint64_t rseq_abi_pointer;
        uint32_t rseq_abi_size;
        uint32_t signature;
        uint32_t flags;
        uint32_t pad;
};
#endif

/* glibc's wrapper guesses what to return; the system call itself does not. */
static long request(long what, int tid, uintptr_t addr, uintptr_t data)
{
        ckpt_fault_point();
        return ckpt_result(syscall(__NR_ptrace, what, (long)tid, addr, data));
}

long ckpt_trace_seize(int tid, unsigned long options)
{
        return request(PTRACE_SEIZE, tid, 0, options | PTRACE_O_TRACESYSGOOD);
}

long ckpt_trace_options(int tid, unsigned long options)
{
        return request(PTRACE_SETOPTIONS, tid, 0, options | PTRACE_O_TRACESYSGOOD);
}

long ckpt_trace_interrupt(int tid)
{
        return request(PTRACE_INTERRUPT, tid, 0, 0);
}

/* `code` is what waitid(2) has in si_status of a tracee that stands. */
static void name_stop(struct ckpt_stop *stop, int code)
{
        int event = code >> 8;

        stop->signal = code & 0xff;
        if (event == PTRACE_EVENT_STOP) {
                stop->kind = stop->signal == SIGTRAP ? CKPT_STOP_INTERRUPT : CKPT_STOP_GROUP;
                if (stop->kind == CKPT_STOP_INTERRUPT)
                        stop->signal = 0;
        } else if (event) {
                stop->kind = CKPT_STOP_EVENT;
                stop->signal = event;
        } else if (stop->signal == (SIGTRAP | 0x80)) {
                stop->kind = CKPT_STOP_SYSCALL;
                stop->signal = 0;
        } else {
                stop->kind = CKPT_STOP_SIGNAL;
        }
}

void ckpt_trace_look(struct ckpt_stop *stop)
{
        siginfo_t info;
        int options = WSTOPPED | WEXITED | WNOHANG | WNOWAIT | __WALL;

        info.si_pid = 0;
        stop->kind = CKPT_STOP_NONE;
        stop->signal = 0;
        if (waitid(P_PID, (id_t)stop->tid, &info, options) < 0) {
                stop->kind = CKPT_STOP_GONE;
                return;
        }
        if (!info.si_pid)
                return;
        if (info.si_code == CLD_TRAPPED || info.si_code == CLD_STOPPED) {
                name_stop(stop, info.si_status);
                return;
        }
        stop->kind = info.si_code == CLD_EXITED ? CKPT_STOP_EXITED : CKPT_STOP_KILLED;
        stop->signal = info.si_status;
}

long ckpt_trace_wait(struct ckpt_stop *stop, int64_t timeout_ns)
{
        struct stopwait wait;
        long err = 0;

        stopwait_begin(&wait, timeout_ns);
        do {
                ckpt_trace_look(stop);
                if (stop->kind != CKPT_STOP_NONE)
                        break;
                err = stopwait_pause(&wait);
        } while (!err);
        stopwait_end(&wait);
        return err == -ETIMEDOUT ? 0 : err;
}

long ckpt_trace_reap(int tid)
{
        siginfo_t info;

        return ckpt_result(waitid(P_PID, (id_t)tid, &info, WEXITED | WNOHANG | __WALL));
}

/* The kernel takes registers from our memory word by word and keeps what it has set when it meets
 * a fault: hence a copy that can't lie on two pages. */
long ckpt_trace_get_regs(int tid, void *regs)
{
        _Alignas(256) unsigned char copy[CKPT_REGS_SIZE];
        struct iovec iov = {.iov_base = copy, .iov_len = sizeof(copy)};
        long err = request(PTRACE_GETREGSET, tid, NT_PRSTATUS, (uintptr_t)&iov);

        if (err)
                return err;
        if (iov.iov_len != sizeof(copy))
                return -ENOEXEC;
        memcpy(regs, copy, sizeof(copy));
        return 0;
}

long ckpt_trace_set_regs(int tid, const void *regs)
{
        _Alignas(256) unsigned char copy[CKPT_REGS_SIZE];
        struct iovec iov = {.iov_base = copy, .iov_len = sizeof(copy)};

        memcpy(copy, regs, sizeof(copy));
        return request(PTRACE_SETREGSET, tid, NT_PRSTATUS, (uintptr_t)&iov);
}

long ckpt_trace_get_xstate(int tid, void *xstate, size_t size)
{
        struct iovec iov = {.iov_base = xstate, .iov_len = size};
        long err = request(PTRACE_GETREGSET, tid, NT_X86_XSTATE, (uintptr_t)&iov);

        return err ? err : (long)iov.iov_len;
}

long ckpt_trace_set_xstate(int tid, const void *xstate, size_t size)
{
        struct iovec iov = {.iov_base = (void *)(uintptr_t)xstate, .iov_len = size};

        return request(PTRACE_SETREGSET, tid, NT_X86_XSTATE, (uintptr_t)&iov);
}

long ckpt_trace_get_sigmask(int tid, uint64_t *mask)
{
        return request(PTRACE_GETSIGMASK, tid, sizeof(*mask), (uintptr_t)mask);
}

long ckpt_trace_set_sigmask(int tid, uint64_t mask)
{
        return request(PTRACE_SETSIGMASK, tid, sizeof(mask), (uintptr_t)&mask);
}

long ckpt_trace_get_dispatch(int tid, struct ckpt_dispatch *dispatch)
{
        memset(dispatch, 0, sizeof(*dispatch));
        long err = request(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, tid, sizeof(*dispatch),
                           (uintptr_t)dispatch);

        return err == -EIO || err == -EINVAL ? 0 : err;
}

long ckpt_trace_set_dispatch(int tid, const struct ckpt_dispatch *dispatch)
{
        return request(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG, tid, sizeof(*dispatch),
                       (uintptr_t)dispatch);
}

long ckpt_trace_get_rseq(int tid, struct ckpt_rseq *rseq)
{
        struct ptrace_rseq_configuration told = {0};
        long size = request(PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof(told), (uintptr_t)&told);

        memset(rseq, 0, sizeof(*rseq));
        if (size < 0)
                return size;
        rseq->pointer = told.rseq_abi_pointer;
        rseq->size = told.rseq_abi_size;
        rseq->signature = told.signature;
        rseq->flags = told.flags;
        return 0;
}

long ckpt_trace_peek_siginfo(int tid, int shared, uint64_t offset, uint32_t nr, void *siginfos)
{
        struct ptrace_peeksiginfo_args args = {
            .off = offset,
            .flags = shared ? PTRACE_PEEKSIGINFO_SHARED : 0,
            .nr = (int32_t)nr,
        };

        return request(PTRACE_PEEKSIGINFO, tid, (uintptr_t)&args, (uintptr_t)siginfos);
}

long ckpt_trace_cont(int tid, int signal)
{
        return request(PTRACE_CONT, tid, 0, (uintptr_t)signal);
}

long ckpt_trace_syscall(int tid, int signal)
{
        return request(PTRACE_SYSCALL, tid, 0, (uintptr_t)signal);
}

long ckpt_trace_detach(int tid, int signal)
{
        return request(PTRACE_DETACH, tid, 0, (uintptr_t)signal);
}

long ckpt_trace_get_filter(int tid, uint64_t index, void *insns, uint64_t *flags)
{
        struct {
                uint64_t filter_off;
                uint64_t flags;
        } metadata = {.filter_off = index};
        long nr = request(PTRACE_SECCOMP_GET_FILTER, tid, index, (uintptr_t)insns);

        if (nr < 0)
                return nr;
        long size =
            request(PTRACE_SECCOMP_GET_METADATA, tid, sizeof(metadata), (uintptr_t)&metadata);
        *flags = size == sizeof(metadata) ? metadata.flags : 0;
        return size < 0 ? size : nr;
}
