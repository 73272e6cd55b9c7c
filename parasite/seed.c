/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The first program of a restored tree's root: makes the window where the controller says, waits
 * until the blob is in it, and enters it for good. Everything else that this program maps is
 * unmapped by the first batch.
 */
#include <linux/mman.h>
#include <linux/signal.h>

#include "parasite.h"

#define PROT_RW (PROT_READ | PROT_WRITE)
#define PROT_RX (PROT_READ | PROT_EXEC)

static void reply(long result)
{
        struct ckpt_reply is = {.result = result};

        ckpt_syscall(__NR_sendto, CKPT_SEED_SOCK, (long)&is, sizeof(is), 0, 0, 0);
}

static _Noreturn void quit(int code)
{
        for (;;)
                ckpt_syscall(__NR_exit_group, code, 0, 0, 0, 0, 0);
}

static long receive(void *to, size_t len)
{
        return ckpt_syscall(__NR_recvfrom, CKPT_SEED_SOCK, (long)to, (long)len, 0, 0, 0);
}

__attribute__((force_align_arg_pointer)) _Noreturn void _start(void)
{
        struct ckpt_seed_window want;
        struct ckpt_command command;
        struct ckpt_blob_header *header;
        struct ckpt_session *session;
        void (*enter)(struct ckpt_session *);
        long got;

        if (receive(&want, sizeof(want)) != sizeof(want))
                quit(1);
        got =
            ckpt_syscall(__NR_mmap, (long)want.window, (long)want.len, PROT_RW,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0);
        reply(got);
        if (got != (long)want.window)
                quit(1);
        if (receive(&command, sizeof(command)) != sizeof(command))
                quit(1);
        got = ckpt_syscall(__NR_mprotect, (long)want.window, (long)want.code_len, PROT_RX, 0, 0, 0);
        if (ckpt_is_error(got))
                quit(1);
        header = (struct ckpt_blob_header *)want.window;
        session = (struct ckpt_session *)command.arg;
        enter = (void (*)(struct ckpt_session *))(want.window + header->entry);
        enter(session);
        quit(1);
}
