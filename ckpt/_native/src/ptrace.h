/* SPDX-License-Identifier: GPL-2.0-only
 *
 * ptrace(2) for one thread. All of it must be called by the thread of ours that seized it.
 *
 * Stops are looked at and never consumed (WNOWAIT): should we die at a signal-delivery stop, the
 * kernel still knows the signal and delivers it. The same at a system-call stop would send the
 * target a SIGTRAP, but for PTRACE_O_TRACESYSGOOD, which makes that number an invalid one: tracees
 * are always seized with it. Ends of threads are consumed by ckpt_trace_reap() only.
 *
 * -ESRCH: the thread has ended, is none of our tracees, or does not stand.
 */

#define CKPT_STOP_NONE      0 /* runs, or sleeps in the kernel */
#define CKPT_STOP_INTERRUPT 1 /* stands as PTRACE_INTERRUPT wants it */
#define CKPT_STOP_GROUP     2 /* the same, and its process was stopped by `signal` */
#define CKPT_STOP_SIGNAL    3 /* is about to take `signal` */
#define CKPT_STOP_SYSCALL   4 /* enters or leaves a system call */
#define CKPT_STOP_EVENT     5 /* any other PTRACE_EVENT: its number is `signal` */
#define CKPT_STOP_EXITED    6 /* ended by itself with status `signal` */
#define CKPT_STOP_KILLED    7 /* ended by `signal` */
#define CKPT_STOP_GONE      8 /* is no tracee of ours */

struct ckpt_stop {
        int32_t tid;
        int32_t kind;
        int32_t signal;
        int32_t pid; /* its process; used by ckpt_stand() only */
};

/* prctl(2) PR_SET_SYSCALL_USER_DISPATCH, as struct ptrace_sud_config has it. */
struct ckpt_dispatch {
        uint64_t mode; /* 0: off */
        uint64_t selector;
        uint64_t offset;
        uint64_t len;
};

struct ckpt_rseq {
        uint64_t pointer; /* 0: none is registered */
        uint32_t size;
        uint32_t signature;
        uint32_t flags;
        uint32_t reserved;
};

/* Attach without stopping. `options` are PTRACE_O_* beside TRACESYSGOOD. */
long ckpt_trace_seize(int tid, unsigned long options);
long ckpt_trace_options(int tid, unsigned long options);
long ckpt_trace_interrupt(int tid);

/* Fill `kind` and `signal` with how the thread `tid` stands now. */
void ckpt_trace_look(struct ckpt_stop *stop);

/* The same after waiting for it to stand or end; kind NONE when the time is over. -EINTR: a signal
 * handler of ours ran; ask again. SIGCHLD is blocked meanwhile and raised again at the end if it
 * was taken here while the process has a handler for it or had it blocked. */
long ckpt_trace_wait(struct ckpt_stop *stop, int64_t timeout_ns);

/* Forget a thread that ended. The zombie of a process goes on to its parent; if that is ourselves,
 * it is reaped. */
long ckpt_trace_reap(int tid);

/* struct user_regs_struct, CKPT_REGS_SIZE bytes. Set in one piece. */
#define CKPT_REGS_SIZE 216
long ckpt_trace_get_regs(int tid, void *regs);
long ckpt_trace_set_regs(int tid, const void *regs);

/* The XSAVE area, in the kernel's standard form. get: the bytes filled, at most `size`. */
long ckpt_trace_get_xstate(int tid, void *xstate, size_t size);
long ckpt_trace_set_xstate(int tid, const void *xstate, size_t size);

/* The mask that the thread goes on with: inside sigsuspend(2) the one it will put back. */
long ckpt_trace_get_sigmask(int tid, uint64_t *mask);
long ckpt_trace_set_sigmask(int tid, uint64_t mask);

/* Which of the thread's system calls are sent to a handler of its own; mode 0 where the kernel
 * can't tell (before Linux 6.4). */
long ckpt_trace_get_dispatch(int tid, struct ckpt_dispatch *dispatch);
long ckpt_trace_set_dispatch(int tid, const struct ckpt_dispatch *dispatch);

/* -EIO or -EINVAL where the kernel can't tell (before Linux 5.13, or without CONFIG_RSEQ). */
long ckpt_trace_get_rseq(int tid, struct ckpt_rseq *rseq);

/* Copy at most `nr` queued signals from number `offset` on as 128-byte siginfo_t; returns how many.
 * `shared`: those of the whole process instead of the thread's own. Nothing is taken off. */
#define CKPT_SIGINFO_SIZE 128
long ckpt_trace_peek_siginfo(int tid, int shared, uint64_t offset, uint32_t nr, void *siginfos);

long ckpt_trace_cont(int tid, int signal);
long ckpt_trace_syscall(int tid, int signal);
long ckpt_trace_detach(int tid, int signal);

/* The seccomp filter that was installed as number `index`, from 0 on (ptrace(2) of 2026 has it the
 * other way round): its instructions, at most 4096 of 8 bytes; returns how many. -ENOENT: there are
 * not so many. */
long ckpt_trace_get_filter(int tid, uint64_t index, void *insns, uint64_t *flags);
