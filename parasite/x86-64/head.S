/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What is x86-64's in the blob: its header, its way in and out, clone3, park.
 */
#include <asm/unistd.h>

#define SESSION_STACK_TOP 24
#define SESSION_LEAVE_TO  32

        .section .head, "ax"
        .globl ckpt_blob
        .hidden ckpt_blob
ckpt_blob:
        .quad 0x626f6c62747063          /* CKPT_BLOB_MAGIC */
        .long 1                         /* CKPT_WIRE_VERSION */
        .long __blob_end - ckpt_blob
        .quad CKPT_WIRE_HASH
        .long entry - ckpt_blob
        .long bare_syscall - ckpt_blob
        .long ckpt_park - ckpt_blob
        .long stub - ckpt_blob
        .long stub_end - stub
        .long stub_return - ckpt_blob

        .text

/* rdi: struct ckpt_session *. All signals are blocked by now, so the stack may change. */
entry:
        mov     %rdi, %rbx
        mov     SESSION_STACK_TOP(%rdi), %rsp
        xor     %ebp, %ebp
        cld
        call    ckpt_serve
        mov     %rbx, %rdi
        jmp     *SESSION_LEAVE_TO(%rbx)

/* long ckpt_clone(args, size, from, to) */
        .globl ckpt_clone
        .hidden ckpt_clone
ckpt_clone:
        mov     %rcx, %r8               /* rcx is lost in the call; rdx and r8 are not */
        mov     $__NR_clone3, %eax
        syscall
        test    %rax, %rax
        jz      1f
        ret
1:      mov     %rdx, %rdi
        mov     %r8, %rsi
        mov     SESSION_STACK_TOP(%rdi), %rsp
        xor     %ebp, %ebp
        call    ckpt_child
        ud2

        .globl ckpt_park
        .hidden ckpt_park
ckpt_park:
        xor     %edi, %edi
        xor     %esi, %esi
        xor     %edx, %edx
        xor     %r10d, %r10d
        xor     %r8d, %r8d
        mov     $__NR_ppoll, %eax
        syscall
        jmp     ckpt_park

bare_syscall:
        syscall
        jmp     ckpt_park

#include "stub.S"

        .section .note.GNU-stack, "", @progbits
