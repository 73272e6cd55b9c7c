/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What both pieces of the stub are made of: the head, the wait, the two ways home. Macros only; the
 * rules they follow stand in stub.S.
 */

#define PIECE_MAGIC 0x3162757473747063
#define ESRCH       3

/* What both pieces begin with: who they are, and the way home. */
.macro PIECE name
\name:
        .quad PIECE_MAGIC
        .long \name\()_end - \name
        .long \name\()_enter - \name
        .long \name\()_park - \name
        .long \name\()_park_end - \name
        .long \name\()_aux - \name
        .long \name\()_aux_end - \name
\name\()_frame: .quad 0                 /* rsp for rt_sigreturn; 0: way B */
\name\()_mask:  .quad 0
\name\()_all:   .quad -1
\name\()_limit: .quad 0, 0              /* how long to wait before the controller is looked for */
\name\()_pid:   .long 0                 /* the controller as this task sees it, or 0 */
\name\()_times: .long 0                 /* how often it may be found alive */
\name\()_regs:  .fill 18, 8, 0          /* r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi
                                           rdi rflags rsp rip */
.endm

.macro BLOCK name
        mov     $__NR_rt_sigprocmask, %eax
        mov     $2, %edi                /* SIG_SETMASK */
        lea     \name\()_all(%rip), %rsi
        xor     %edx, %edx
        mov     $8, %r10d
        syscall
.endm

/* A wait is over, by its limit or by an interrupt. Go on at `again` if the controller lives and \count is not used up. Kill
 * with signal 0 only asks; of somebody else's process it says EPERM. */
.macro ALIVE name, count, again
        mov     \name\()_pid(%rip), %edi
        xor     %esi, %esi
        mov     $__NR_kill, %eax
        syscall
        cmp     $-ESRCH, %eax
        je      9f
        dec     \count
        jns     \again
9:
.endm

/* Wait without a descriptor as long as the controller lives; falls through when that is over. */
.macro WAIT name, count
        mov     \name\()_times(%rip), \count
1:      xor     %edi, %edi
        xor     %esi, %esi
        lea     \name\()_limit(%rip), %rdx
        xor     %r10d, %r10d
        mov     $8, %r8d
        mov     $__NR_ppoll, %eax
        syscall
        ALIVE   \name, \count, 1b
.endm

/* Signals are blocked anew: a controller may have given the mask back and died before it could give
 * the registers back as well, and rsp is about to point where no handler could run. */
.macro HOME name
        BLOCK   \name
        mov     \name\()_frame(%rip), %rax
        test    %rax, %rax
        jz      2f
        mov     %rax, %rsp
        mov     $__NR_rt_sigreturn, %eax
        syscall
2:      lea     \name\()_regs+15*8(%rip), %rsp
        popfq
        mov     \name\()_regs+16*8(%rip), %rsp
        /* from here on flags must not change */
        mov     $__NR_rt_sigprocmask, %eax
        mov     $2, %edi
        lea     \name\()_mask(%rip), %rsi
        mov     $0, %edx
        mov     $8, %r10d
        syscall
        mov     \name\()_regs+0*8(%rip), %r15
        mov     \name\()_regs+1*8(%rip), %r14
        mov     \name\()_regs+2*8(%rip), %r13
        mov     \name\()_regs+3*8(%rip), %r12
        mov     \name\()_regs+4*8(%rip), %rbp
        mov     \name\()_regs+5*8(%rip), %rbx
        mov     \name\()_regs+6*8(%rip), %r11
        mov     \name\()_regs+7*8(%rip), %r10
        mov     \name\()_regs+8*8(%rip), %r9
        mov     \name\()_regs+9*8(%rip), %r8
        mov     \name\()_regs+10*8(%rip), %rax
        mov     \name\()_regs+11*8(%rip), %rcx
        mov     \name\()_regs+12*8(%rip), %rdx
        mov     \name\()_regs+13*8(%rip), %rsi
        mov     \name\()_regs+14*8(%rip), %rdi
        jmp     *\name\()_regs+17*8(%rip)
.endm
