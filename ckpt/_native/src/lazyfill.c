/* SPDX-License-Identifier: GPL-2.0-only */
#include "lazyfill.h"

#include "uffd.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE    4096ULL
#define LOWEST  (1ULL << 16)
#define HIGHEST ((1ULL << 47) - PAGE)

static void wake(int uffd, uint64_t start, uint64_t len)
{
        struct uffdio_range range = {.start = start, .len = len};

        /* A range that is not there has nobody who waits. */
        (void)ioctl(uffd, UFFDIO_WAKE, &range);
}

/* One request: bytes that were filled, or -errno if none was. */
static long request(int uffd, uint64_t addr, const void *pages, uint64_t len, int protect)
{
        struct uffdio_copy copy = {
            .dst = addr,
            .src = (uintptr_t)pages,
            .len = len,
            .mode = protect ? UFFDIO_COPY_MODE_WP : 0,
        };
        struct uffdio_zeropage zero = {.range = {.start = addr, .len = len}};
        long result = pages ? ioctl(uffd, UFFDIO_COPY, &copy) : ioctl(uffd, UFFDIO_ZEROPAGE, &zero);
        int64_t done = pages ? copy.copy : zero.zeropage;

        if (result == 0)
                return (long)len;
        return done > 0 ? (long)done : -errno;
}

long lazy_fill(int uffd, uint64_t addr, const void *pages, uint64_t nr, int protect,
               struct lazy_filled *filled)
{
        uint64_t done = 0, step = nr;

        while (done < nr) {
                const char *from = pages ? (const char *)pages + done * PAGE : NULL;
                uint64_t at = addr + done * PAGE, len = step < nr - done ? step : nr - done;
                long got = request(uffd, at, from, len * PAGE, protect);

                if (got > 0) {
                        filled->copied += (uint64_t)got / PAGE;
                        done += (uint64_t)got / PAGE;
                        continue;
                }
                if (got == -EAGAIN)
                        break;
                if (got == -EEXIST) {
                        wake(uffd, at, PAGE);
                        filled->there++;
                        done++;
                } else if ((got == -ENOENT || got == -EINVAL) && len > 1) {
                        step = len / 2; /* more than one mapping */
                } else if (got == -ENOENT || got == -EINVAL) {
                        /* It may have moved: the kernel looks for the mapping first. */
                        if (uffd_protect(uffd, at, PAGE, 0) == -EAGAIN)
                                break;
                        wake(uffd, at, PAGE);
                        filled->gone++;
                        done++;
                } else {
                        return got;
                }
        }
        return (long)done;
}

long lazy_unprotect(int uffd, uint64_t addr)
{
        long err = uffd_protect(uffd, addr, PAGE, 0);

        if (err == -ENOENT || err == -EINVAL)
                wake(uffd, addr, PAGE);
        return err && err != -EAGAIN && err != -ENOENT && err != -EINVAL && err != -ESRCH ? err : 0;
}

unsigned long lazy_nr_faults(int uffd)
{
        char path[64], text[1024];
        const char *found;
        ssize_t got;
        int lfd;

        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", uffd);
        lfd = open(path, O_RDONLY | O_CLOEXEC);
        if (lfd < 0)
                return 0;
        got = read(lfd, text, sizeof(text) - 1);
        close(lfd);
        if (got <= 0)
                return 0;
        text[got] = 0;
        found = strstr(text, "pending:");
        return found ? strtoul(found + strlen("pending:"), NULL, 10) : 0;
}

int lazy_quiet(int uffd)
{
        /* The kernel looks at that before it finds that the range is empty. */
        return uffd_protect(uffd, LOWEST, 0, 0) != -EAGAIN;
}

void lazy_wake(int uffd, uint64_t addr)
{
        wake(uffd, addr, PAGE);
}

void lazy_wake_all(int uffd)
{
        wake(uffd, LOWEST, HIGHEST - LOWEST);
}
