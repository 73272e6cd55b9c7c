/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"
#include "seizing.h"

#include <dirent.h>
#include <stdlib.h>

#define CHUNK 4096

struct caught {
        struct seizing seizing;
        struct ckpt_born *born;
        uint64_t nr;
        uint64_t room;
};

/* Those that stand already are most of what is listed. */
static int stands(int tid)
{
        uint64_t mask;

        return ckpt_trace_get_sigmask(tid, &mask) == 0;
}

static void seize(struct caught *caught, int tid, int pid)
{
        if (caught->nr == caught->room || stands(tid) || ckpt_is_worker(tid) ||
            seizing_seize(&caught->seizing, tid, pid, 0))
                return;
        ckpt_trace_interrupt(tid);
        caught->born[caught->nr++] = (struct ckpt_born){.tid = tid, .pid = pid};
}

/* Numbers, each with a space behind it; a read may end within one. */
static void seize_children(struct caught *caught, int fd)
{
        char text[CHUNK];
        off_t at = 0;
        int pid = 0;
        ssize_t got;

        while ((got = pread(fd, text, sizeof(text), at)) > 0) {
                at += got;
                for (ssize_t i = 0; i < got; i++) {
                        if (text[i] >= '0' && text[i] <= '9') {
                                pid = pid * 10 + (text[i] - '0');
                                continue;
                        }
                        if (pid)
                                seize(caught, pid, pid);
                        pid = 0;
                }
        }
}

static void seize_threads(struct caught *caught, int fd, int pid)
{
        _Alignas(struct dirent64) char entries[CHUNK];
        long got;

        if (lseek(fd, 0, SEEK_SET) < 0)
                return;
        while ((got = syscall(__NR_getdents64, fd, entries, sizeof(entries))) > 0) {
                for (long at = 0; at < got;) {
                        const struct dirent64 *entry = (const void *)(entries + at);

                        if (entry->d_name[0] != '.')
                                seize(caught, atoi(entry->d_name), pid);
                        at += entry->d_reclen;
                }
        }
}

long ckpt_seize_born(const struct ckpt_list *lists, uint64_t nr, int64_t budget_ns,
                     struct ckpt_born *born, uint64_t room)
{
        int64_t until_ns = ckpt_now_ns() + budget_ns;
        struct caught caught = {.born = born, .room = room};

        seizing_begin(&caught.seizing);
        do {
                for (uint64_t i = 0; i < nr; i++) {
                        if (lists[i].pid)
                                seize_threads(&caught, lists[i].fd, lists[i].pid);
                        else
                                seize_children(&caught, lists[i].fd);
                }
        } while (!caught.nr && ckpt_now_ns() < until_ns);
        seizing_end(&caught.seizing);
        return (long)caught.nr;
}
