/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

/* seq_file gives whole lines of a page at a time, but does not promise it. */
#define CHUNK 4096

static int caught(int pid)
{
        if (ckpt_trace_seize(pid, 0))
                return 0;
        ckpt_trace_interrupt(pid);
        return 1;
}

/* Returns how many of the list were caught; stops when there is no more room. */
static uint64_t seize_listed(int list, int32_t *pids, uint64_t room)
{
        char text[CHUNK];
        uint64_t nr = 0;
        off_t at = 0;
        int32_t pid = 0;
        ssize_t got;

        while ((got = pread(list, text, sizeof(text), at)) > 0) {
                at += got;
                for (ssize_t i = 0; i < got; i++) {
                        if (text[i] >= '0' && text[i] <= '9') {
                                pid = pid * 10 + (text[i] - '0');
                                continue;
                        }
                        if (nr == room)
                                return nr;
                        if (pid && caught(pid))
                                pids[nr++] = pid;
                        pid = 0;
                }
        }
        return nr;
}

long ckpt_seize_born(const int32_t *lists, uint64_t nr, int64_t budget_ns, int32_t *pids,
                     uint64_t room)
{
        int64_t until_ns = ckpt_now_ns() + budget_ns;
        uint64_t found = 0;

        do {
                for (uint64_t i = 0; i < nr; i++)
                        found += seize_listed(lists[i], pids + found, room - found);
        } while (!found && ckpt_now_ns() < until_ns);
        return (long)found;
}
