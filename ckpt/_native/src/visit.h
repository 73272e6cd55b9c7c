/* SPDX-License-Identifier: GPL-2.0-only
 *
 * Many threads, one after the other, go into the second piece of the stub, make its calls and come
 * back (ckpt/infect/threads.py, parasite/x86-64/stub.S): the fast way, for what goes as it should.
 *
 * Each request leaves its thread able to finish by itself, as in ckpt/infect/entry.py: everything
 * is written; one SETREGSET sends it in; SETSIGMASK(all); CONT. When it stands parked: SETSIGMASK,
 * SETREGSET as at the stop. Whatever is out of the ordinary ends the loop, for the caller to see
 * to; the threads behind it are untouched.
 */

#define CKPT_VISIT_BEFORE 0 /* nothing of this thread has changed but bytes nobody uses */
#define CKPT_VISIT_INSIDE 1 /* it was sent in and may still be there */
#define CKPT_VISIT_BACK   2 /* it stands as before; `after` and `answers` are filled in */

struct ckpt_visit_site {
        uint64_t code; /* where the parts of `writes` go */
        uint64_t frame;
        uint64_t xstate;
        uint64_t park; /* a thread at an address from here up to the end has nothing to undo */
        uint64_t park_end;
        uint64_t answers; /* what the calls write to */
        uint32_t code_len;
        uint32_t frame_len;
        uint32_t answers_len; /* at most 64 */
        int32_t mem;          /* a descriptor of /proc/PID/mem */
};

struct ckpt_visit {
        int32_t tid;
        int32_t stage;
        int32_t result;       /* where it is not BACK: why, -errno; 0: it takes long */
        uint32_t xstate_len;  /* 0: neither frame nor xstate are written */
        uint64_t writes;      /* offset of code, frame and xstate, one behind the other */
        uint64_t sigmask;     /* its own */
        uint8_t stopped[216]; /* struct user_regs_struct: as it stands, and will again */
        uint8_t entered[216]; /* to send it in */
        uint8_t after[216];   /* when it had made the calls */
        uint8_t answers[64];
};

/* Visit all; how many are BACK. -ESTALE as `result`: the thread is not where it was stopped. Ends
 * early, with a thread BACK, when a handler of a signal of ours ran. */
uint64_t ckpt_visit_threads(const struct ckpt_visit_site *site, struct ckpt_visit *visits,
                            uint64_t nr, const void *writes);
