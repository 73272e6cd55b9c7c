/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The code that is entered first in a live target, and its way back.
 *
 * Two pieces, each placed by itself in bytes of an executable mapping that nobody uses: one for
 * the task's leader, which brings the session up and takes it down, one for any other thread,
 * which makes a few calls. A piece is code and the data that the controller fills in; it is read
 * and executed, never written by the target.
 *
 * Rules:
 *   1. rsp is the target's whenever a signal is not blocked; no stack is used, no FPU.
 *   2. Whatever fails or times out, the thread goes home by itself: what was done is undone, then
 *      way A (rt_sigreturn on the prepared frame) or way B (registers one by one; for a thread
 *      with a restart block, which rt_sigreturn would destroy).
 *   3. While parked, nothing of the session is left, and rsp is the target's again: a controller may
 *      give mask and registers back, in this order, and die in between.
 *   4. ppoll is the only wait: it leaves the restart block alone. Its limit lies in memory that is
 *      not writable, so it returns EINTR where it was interrupted. However it ends, the controller
 *      is looked for: one that lives may be slow on a busy machine; without one a thread whose mask
 *      was given back already could be interrupted for ever.
 *
 * The offsets are those of ckpt/infect/stub.py.
 */

#define SESSION_SOCK    48
#define SESSION_TOLD    60
#define SV              64      /* in the data area: the two ends, ready word, struct pollfd */
#define READY           72
#define POLLFD          80
#define NR_LIMITS       4
#define NR_CALLS        5

#include "piece.S"

        .balign 8
stub:
PIECE leader
leader_window:  .quad 0
leader_len:     .quad 0
leader_data:    .quad 0
leader_datalen: .quad 0
leader_entry:   .quad 0                 /* the blob's; 0: no socket, the controller drives */
leader_limits:  .fill NR_LIMITS * 5, 8, 0 /* resource, for the session: soft hard, after: soft hard */
leader_nr:      .quad 0

/* rbx: what is to be told of a failure (which step), rbp: its result. */
leader_enter:
        BLOCK   leader
        mov     $8, %r15d
        jmp     limits
limits_done_1:
        mov     $1, %ebx
        mov     leader_window(%rip), %rdi
        mov     leader_len(%rip), %rsi
        mov     $5, %edx                /* PROT_READ | PROT_EXEC */
        mov     $0x100022, %r10d        /* MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE */
        mov     $-1, %r8
        xor     %r9d, %r9d
        mov     $__NR_mmap, %eax
        syscall
        mov     %rax, %rbp
        mov     $-1, %r12d
        mov     $1, %r13d
        cmp     leader_window(%rip), %rax
        jne     nothing_mapped
        inc     %ebx
        mov     leader_data(%rip), %rdi
        mov     leader_datalen(%rip), %rsi
        mov     $3, %edx                /* PROT_READ | PROT_WRITE */
        mov     $0x32, %r10d            /* MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED */
        mov     $__NR_mmap, %eax
        syscall
        mov     %rax, %rbp
        cmp     leader_data(%rip), %rax
        jne     undo
        mov     %rax, %r14
        mov     leader_window(%rip), %rdi
        mov     leader_len(%rip), %rsi
        mov     $10, %edx               /* MADV_DONTFORK */
        mov     $__NR_madvise, %eax
        syscall
        cmpq    $0, leader_entry(%rip)
        je      driven
        inc     %ebx
        mov     $1, %edi                /* AF_UNIX */
        mov     $0x80005, %esi          /* SOCK_SEQPACKET | SOCK_CLOEXEC */
        xor     %edx, %edx
        lea     SV(%r14), %r10
        mov     $__NR_socketpair, %eax
        syscall
        mov     %rax, %rbp
        test    %eax, %eax
        jnz     undo
        mov     SV(%r14), %eax
        mov     %eax, POLLFD(%r14)
        movl    $1, POLLFD+4(%r14)      /* POLLIN */
        movl    $1, READY(%r14)
        mov     leader_times(%rip), %r15d
3:      lea     POLLFD(%r14), %rdi
        mov     $1, %esi
        lea     leader_limit(%rip), %rdx
        xor     %r10d, %r10d
        mov     $8, %r8d
        mov     $__NR_ppoll, %eax
        syscall
        mov     %eax, %r12d
        cmp     $1, %eax
        je      10f
        ALIVE   leader, %r15d, 3b
10:     mov     SV+4(%r14), %edi
        mov     $__NR_close, %eax
        syscall
        mov     %r14, %rdi
        cmp     $1, %r12d
        jne     4f
        jmp     *leader_entry(%rip)
4:      mov     SV(%r14), %r12d
        xor     %r13d, %r13d
        jmp     undo

/* No descriptor is to be had: the controller sets registers to make single calls here. */
driven:
        movl    $1, READY(%r14)
        jmp     8f
leader_aux:
        syscall
        mov     %rax, %rbp
8:      WAIT    leader, %r15d
leader_aux_end:
        xor     %r13d, %r13d
        mov     $-1, %r12d
        jmp     undo

/* rdi: struct ckpt_session *. The blob leaves its end of the socket to us, so that end of file
 * tells the controller that nothing is left. */
stub_return:
        mov     SESSION_SOCK(%rdi), %r12d
        mov     SESSION_TOLD(%rdi), %r13d
undo:
        mov     leader_window(%rip), %rdi
        mov     leader_len(%rip), %rsi
        mov     $__NR_munmap, %eax
        syscall
nothing_mapped:
        mov     $24, %r15d
        jmp     limits
limits_done_2:
        /* The blob's stack is gone with the window. Whoever gives the mask back before the registers
         * lets signals in, whose handlers want a stack. */
        mov     leader_regs+16*8(%rip), %rsp
        mov     %r12d, %edi
        mov     $__NR_close, %eax
        syscall
leader_park:
        test    %r13d, %r13d
        jz      leader_home
        WAIT    leader, %r15d
leader_park_end:
leader_home:
        HOME    leader

/* Set all limits to the pair at offset r15d (8: for the session, 24: after it). */
limits:
        xor     %r14d, %r14d
        lea     leader_limits(%rip), %rdx
5:      cmp     leader_nr(%rip), %r14d
        je      6f
        xor     %edi, %edi
        mov     (%rdx), %esi
        mov     %rdx, %r8
        add     %r15, %rdx
        xor     %r10d, %r10d
        mov     $__NR_prlimit64, %eax
        syscall
        lea     40(%r8), %rdx
        inc     %r14d
        jmp     5b
6:      cmp     $8, %r15d
        je      limits_done_1
        jmp     limits_done_2
        .balign 8
leader_end:

/* Another thread: a few calls that don't wait. Results are shifted through rbp r12 r13 r14 r15, the
 * last one first. */
PIECE thread
thread_upto:    .quad 0                 /* address of the end of the calls */
thread_calls:   .fill NR_CALLS * 7, 8, 0 /* number and six arguments */

thread_enter:
        BLOCK   thread
        lea     thread_calls(%rip), %rbx
7:      cmp     thread_upto(%rip), %rbx
        jae     thread_park
        mov     %r14, %r15
        mov     %r13, %r14
        mov     %r12, %r13
        mov     %rbp, %r12
        mov     (%rbx), %rax
        mov     8(%rbx), %rdi
        mov     16(%rbx), %rsi
        mov     24(%rbx), %rdx
        mov     32(%rbx), %r10
        mov     40(%rbx), %r8
        mov     48(%rbx), %r9
        syscall
        mov     %rax, %rbp
        add     $56, %rbx
        jmp     7b
thread_park:
thread_aux:
thread_aux_end:
        WAIT    thread, %ebx
thread_park_end:
        HOME    thread
        .balign 8
thread_end:
stub_end:
