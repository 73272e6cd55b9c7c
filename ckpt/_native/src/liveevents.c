/* SPDX-License-Identifier: GPL-2.0-only */
#include "livestate.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "uffd.h"

#define AT_ONCE 16

/* The faults that wait to be read; what else there is to read then are events. */
static uint64_t pending_faults(const struct live_mm *mm)
{
        char text[512];
        ssize_t n = pread(mm->fdinfo, text, sizeof(text) - 1, 0);
        const char *at;

        if (n <= 0)
                return 0;
        text[n] = 0;
        at = strstr(text, "pending:");
        return at ? strtoull(at + strlen("pending:"), NULL, 10) : 0;
}

/* The call that a thread waits in and its first two arguments; 0 if it can't be told. */
static int call_of(int task, const char *tid, unsigned long call[3])
{
        char path[64], text[256];
        ssize_t n;
        int fd;

        if (snprintf(path, sizeof(path), "%s/syscall", tid) >= (int)sizeof(path))
                return 0;
        fd = openat(task, path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return 0;
        n = read(fd, text, sizeof(text) - 1);
        close(fd);
        if (n <= 0)
                return 0;
        text[n] = 0;
        return sscanf(text, "%lu %lx %lx", &call[0], &call[1], &call[2]) == 3;
}

/* A caller of madvise(2) is held until its event is read: copy what it gives back. */
static long save_advised(struct ckpt_live *live, struct live_mm *mm)
{
        char path[32];
        struct dirent *entry;
        DIR *threads;
        long err = 0;

        if (!mm->pid || (mm->kind == LIVE_PRIVATE && (!mm->covered || !mm->nr_left)))
                return 0;
        snprintf(path, sizeof(path), "/proc/%d/task", mm->pid);
        threads = opendir(path);
        while (threads && !err && (entry = readdir(threads))) {
                unsigned long call[3];

                if (entry->d_name[0] == '.' || !call_of(dirfd(threads), entry->d_name, call))
                        continue;
                if (call[0] == __NR_madvise && call[1] + call[2] > call[1])
                        err = mm->kind == LIVE_VIEW
                                  ? live_share_save(live, mm, call[1], call[1] + call[2])
                                  : live_save(live, mm, call[1], call[1] + call[2], 1);
        }
        if (threads)
                closedir(threads);
        return err;
}

static void demand_saved(struct ckpt_live *live, struct live_mm *mm, uint64_t start, uint64_t end)
{
        uint64_t addr;

        if (live_has_left(mm, start, end, &addr))
                live_lost(live, mm, addr);
}

/* Pages were moved with their protection; their owner waits until it is told that we know. */
static long follow(struct ckpt_live *live, struct live_mm *mm, uint64_t from, uint64_t to,
                   uint64_t len)
{
        uint64_t at = placement_above(&mm->place, from);
        uint64_t last = placement_above(&mm->place, from + len);
        uint64_t before = mm->nr_left;
        long err = 0;

        while (mm->covered && !err && at < last) {
                uint64_t left, addr = placement_addr(&mm->place, at, &left);

                if (left > last - at)
                        left = last - at;
                err = live_copy(live, mm, at, left, addr - from + to, 1);
                at += left;
        }
        live->figures.saved_pages += before - mm->nr_left;
        return err;
}

static long handle(struct ckpt_live *live, struct live_mm *mm, const struct uffd_msg *message)
{
        if (mm->kind == LIVE_VIEW)
                return live_share_handle(live, mm, message);
        switch (message->event) {
        case UFFD_EVENT_PAGEFAULT:
                return live_fault(live, mm, message->arg.pagefault.address & ~(PAGE - 1));
        case UFFD_EVENT_REMAP:
                live->figures.nr_unmappings++;
                live_note(mm, message->arg.remap.from,
                          message->arg.remap.from + message->arg.remap.len);
                live_note(mm, message->arg.remap.to,
                          message->arg.remap.to + message->arg.remap.len);
                notes_add(mm->displaced, message->arg.remap.to,
                          message->arg.remap.to + message->arg.remap.len);
                return follow(live, mm, message->arg.remap.from, message->arg.remap.to,
                              message->arg.remap.len);
        case UFFD_EVENT_UNMAP:
                live->figures.nr_unmappings++;
                /* fall through */
        case UFFD_EVENT_REMOVE:
                live_note(mm, message->arg.remove.start, message->arg.remove.end);
                demand_saved(live, mm, message->arg.remove.start, message->arg.remove.end);
                return 0;
        default:
                return 0;
        }
}

long live_listen(struct ckpt_live *live, struct live_mm *mm)
{
        struct pollfd wait = {.fd = mm->uffd, .events = POLLIN};
        struct uffd_msg messages[AT_ONCE];
        uint64_t nr;
        ssize_t got;
        long err = 0;

        if (poll(&wait, 1, 0) <= 0)
                return 0;
        if (wait.revents & (POLLERR | POLLNVAL))
                return -EBADF;
        nr = pending_faults(mm);
        if (!nr)
                err = save_advised(live, mm);
        if (err)
                return err;
        nr = nr < 1 ? 1 : nr > AT_ONCE ? AT_ONCE : nr;
        got = read(mm->uffd, messages, nr * sizeof(*messages));
        if (got < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        for (ssize_t i = 0; !err && i < got / (ssize_t)sizeof(*messages); i++)
                err = handle(live, mm, &messages[i]);
        return err;
}
