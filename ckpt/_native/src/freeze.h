/* SPDX-License-Identifier: GPL-2.0-only
 *
 * ptrace.h for many threads at once, so that a process of a thousand stands in milliseconds. Only
 * the thread of ours that seized them may call these.
 */

/* Whether the kernel has made this thread to work for its task (io_uring). It would stop for a
 * tracer, which ends the call that it is in with an error that its task gets to see; it has no user
 * mode to go back to. 0 also if it is gone. Source: PF_IO_WORKER of include/linux/sched.h, since
 * Linux 5.12; proc_pid_stat(5). */
int ckpt_is_worker(int tid);

/* Seize each, a thread of the process at the same place of `pids`; `results` takes 0 or -errno of
 * each, -ENOTSUP of a worker, which is left alone. */
void ckpt_seize_many(const int32_t *tids, const int32_t *pids, uint64_t nr, unsigned long options,
                     int32_t *results);

/* Interrupt each; those that ended are found by the wait. */
void ckpt_interrupt_many(const int32_t *tids, uint64_t nr);

/* Wait until each thread that was interrupted stands or is gone: kind INTERRUPT, GROUP, EXITED,
 * KILLED or GONE. At any other stop it is interrupted anew and goes on, with its signal. Ends of
 * threads other than leaders are reaped at once, for an exec(2) of their process waits for it. Who
 * stands has a call that it will make again if an interrupt has ended it (again.h).
 * Elements that aren't NONE on entry are left alone. Returns how many don't stand when the time is
 * over (kind NONE), or -EINTR: a handler of ours ran; ask again. */
long ckpt_stand(struct ckpt_stop *stops, uint64_t nr, int64_t timeout_ns);

/* Let those of kind INTERRUPT run on, still seized; their kind becomes NONE. */
void ckpt_unstand(struct ckpt_stop *stops, uint64_t nr);

/* Detach each; one that stands before a signal gets it. `results` takes 0 or -errno of each, -EBUSY
 * of one that stands at a system call: it is to be interrupted first. */
void ckpt_detach_many(const int32_t *tids, uint64_t nr, int32_t *results);

struct ckpt_thread {
        int32_t tid;
        int32_t result; /* 0, or the -errno of what could not be read */
        uint64_t sigmask;
        struct ckpt_rseq rseq;
        uint64_t abort_ip; /* where the thread goes on if it is inside an rseq section, else 0 */
        uint32_t nr_xstate;
        uint32_t pending; /* the thread has queued signals of its own */
        struct ckpt_dispatch dispatch;
        uint8_t regs[216]; /* CKPT_REGS_SIZE */
};

/* Read each standing thread `tid`; its XSAVE area goes to `xstates` + its index * `xstate_size`.
 * Nothing in the target changes. */
void ckpt_read_threads(struct ckpt_thread *threads, uint64_t nr, void *xstates, size_t xstate_size);
