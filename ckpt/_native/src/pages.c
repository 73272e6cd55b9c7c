/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define PAGE 4096ULL

/* Debian 12's headers are older than the call; the numbers are include/uapi/linux/fs.h's. */
#ifndef PAGEMAP_SCAN
struct page_region {
        uint64_t start;
        uint64_t end;
        uint64_t categories;
};
struct pm_scan_arg {
        uint64_t size;
        uint64_t flags;
        uint64_t start;
        uint64_t end;
        uint64_t walk_end;
        uint64_t vec;
        uint64_t vec_len;
        uint64_t max_pages;
        uint64_t category_inverted;
        uint64_t category_mask;
        uint64_t category_anyof_mask;
        uint64_t return_mask;
};
#define PAGEMAP_SCAN    _IOWR('f', 16, struct pm_scan_arg)
#define PAGE_IS_FILE    (1 << 2)
#define PAGE_IS_PRESENT (1 << 3)
#define PAGE_IS_SWAPPED (1 << 4)
#define PAGE_IS_PFNZERO (1 << 5)
#endif
#ifndef PAGE_IS_GUARD
#define PAGE_IS_GUARD (1 << 8)
#endif

#define PM_PRESENT (1ULL << 63)
#define PM_SWAP    (1ULL << 62)
#define PM_FILE    (1ULL << 61)

struct extents {
        struct ckpt_extent *at;
        uint64_t nr;
        uint64_t room;
};

static long append(struct extents *to, uint64_t start, uint64_t end, int merge)
{
        if (merge && to->nr && to->at[to->nr - 1].end == start) {
                to->at[to->nr - 1].end = end;
                return 0;
        }
        if (to->nr == to->room) {
                uint64_t room = to->room ? 2 * to->room : 256;
                struct ckpt_extent *at = realloc(to->at, room * sizeof(*at));

                if (!at)
                        return -ENOMEM;
                to->at = at;
                to->room = room;
        }
        to->at[to->nr++] = (struct ckpt_extent){start, end};
        return 0;
}

static long scan(int pagemap, struct ckpt_extent in, uint64_t not, struct extents *to)
{
        struct page_region found[512];
        struct pm_scan_arg arg = {
            .size = sizeof(arg),
            .start = in.start,
            .end = in.end,
            .vec = (uintptr_t)found,
            .vec_len = sizeof(found) / sizeof(*found),
            .category_inverted = not,
            .category_mask = not,
            .category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            .return_mask = PAGE_IS_PRESENT,
        };
        int first = 1;

        while (arg.start < in.end) {
                long nr = ioctl(pagemap, PAGEMAP_SCAN, &arg);

                if (nr < 0)
                        return -errno;
                for (long i = 0; i < nr; i++) {
                        long err = append(to, found[i].start, found[i].end, !first);

                        if (err)
                                return err;
                        first = 0;
                }
                arg.start = arg.walk_end;
        }
        return 0;
}

static long read_words(int pagemap, struct ckpt_extent in, struct extents *to)
{
        uint64_t words[4096];
        int first = 1;

        for (uint64_t addr = in.start; addr < in.end;) {
                uint64_t nr = (in.end - addr) / PAGE;
                ssize_t got;

                if (nr > 4096)
                        nr = 4096;
                got = pread(pagemap, words, nr * 8, (off_t)(addr / PAGE * 8));
                if (got <= 0)
                        return got ? -errno : -EIO;
                for (ssize_t i = 0; i < got / 8; i++, addr += PAGE) {
                        long err;

                        if (!(words[i] & (PM_PRESENT | PM_SWAP)) || (words[i] & PM_FILE))
                                continue;
                        err = append(to, addr, addr + PAGE, !first);
                        if (err)
                                return err;
                        first = 0;
                }
        }
        return 0;
}

long ckpt_scan_pages(int pagemap, const struct ckpt_extent *in, uint64_t nr_in,
                     struct ckpt_extent **out)
{
        struct extents to = {0};
        uint64_t not = PAGE_IS_FILE | PAGE_IS_PFNZERO | PAGE_IS_GUARD;
        int has_scan = 1;

        for (uint64_t i = 0; i < nr_in; i++) {
                uint64_t before = to.nr;
                long err =
                    has_scan ? scan(pagemap, in[i], not, &to) : read_words(pagemap, in[i], &to);

                if (err == -EINVAL && (not & PAGE_IS_GUARD)) {
                        not &= ~(uint64_t)PAGE_IS_GUARD;
                        to.nr = before;
                        i--;
                        continue;
                }
                if (err == -ENOTTY || (err == -EINVAL && has_scan)) {
                        has_scan = 0;
                        to.nr = before;
                        i--;
                        continue;
                }
                if (err) {
                        free(to.at);
                        return err;
                }
        }
        *out = to.at;
        return (long)to.nr;
}

long ckpt_find_guard(int pagemap, const struct ckpt_extent *in, uint64_t nr_in, uint64_t *addr)
{
        for (uint64_t i = 0; i < nr_in; i++) {
                struct page_region found;
                struct pm_scan_arg arg = {
                    .size = sizeof(arg),
                    .start = in[i].start,
                    .end = in[i].end,
                    .vec = (uintptr_t)&found,
                    .vec_len = 1,
                    .max_pages = 1,
                    .category_mask = PAGE_IS_GUARD,
                    .return_mask = PAGE_IS_GUARD,
                };
                long nr = ioctl(pagemap, PAGEMAP_SCAN, &arg);

                if (nr < 0)
                        return errno == EINVAL || errno == ENOTTY ? 0 : -errno;
                if (nr > 0) {
                        *addr = found.start;
                        return 1;
                }
        }
        return 0;
}

void ckpt_free(void *memory)
{
        free(memory);
}

uint64_t ckpt_extents_sum(const struct ckpt_extent *extent, uint64_t nr)
{
        uint64_t total = 0;

        for (uint64_t i = 0; i < nr; i++)
                total += extent[i].end - extent[i].start;
        return total;
}

uint64_t ckpt_extents_to_iovec(const struct ckpt_extent *extent, uint64_t nr, void *iov)
{
        struct iovec *to = iov;
        uint64_t total = 0;

        for (uint64_t i = 0; i < nr; i++) {
                to[i].iov_base = (void *)(uintptr_t)extent[i].start;
                to[i].iov_len = extent[i].end - extent[i].start;
                total += to[i].iov_len;
        }
        return total;
}

long ckpt_splice(int from, int to, uint64_t len, int sock)
{
        uint64_t done = 0;

        while (done < len) {
                struct pollfd waits[2] = {{.fd = from, .events = POLLIN},
                                          {.fd = sock, .events = POLLIN}};
                ssize_t n =
                    splice(from, NULL, to, NULL, len - done, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

                if (n > 0) {
                        done += (uint64_t)n;
                        continue;
                }
                if (n == 0)
                        break;
                if (errno == EINTR)
                        continue;
                if (errno != EAGAIN)
                        return -errno;
                if (poll(waits, 2, -1) < 0 && errno != EINTR)
                        return -errno;
                if (!waits[0].revents && waits[1].revents)
                        break;
        }
        return (long)done;
}

static long write_all(int to, const char *from, size_t len)
{
        while (len) {
                ssize_t n = write(to, from, len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n ? -errno : -EIO;
                from += n;
                len -= (size_t)n;
        }
        return 0;
}

long ckpt_copy_out(int mem, const struct ckpt_extent *in, uint64_t nr_in, int to)
{
        enum { HOT = 256 * 1024 };
        char *buffer = malloc(HOT);
        long err = buffer ? 0 : -ENOMEM;

        for (uint64_t i = 0; !err && i < nr_in; i++) {
                for (uint64_t addr = in[i].start; !err && addr < in[i].end;) {
                        size_t len = in[i].end - addr < HOT ? in[i].end - addr : HOT;
                        ssize_t n = pread(mem, buffer, len, (off_t)addr);

                        if (n <= 0)
                                err = n ? -errno : -EIO;
                        else
                                err = write_all(to, buffer, (size_t)n);
                        addr += n > 0 ? (uint64_t)n : 0;
                }
        }
        free(buffer);
        return err;
}

long ckpt_copy_file(int from, uint64_t from_at, int to, uint64_t to_at, uint64_t len)
{
        off_t at = (off_t)from_at;

        if (lseek(to, (off_t)to_at, SEEK_SET) < 0)
                return -errno;
        while (len) {
                ssize_t n = sendfile(to, from, &at, len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n ? -errno : -EIO;
                len -= (uint64_t)n;
        }
        return 0;
}

long ckpt_compare_pages(const void *a, const void *b, uint64_t nr_pages, struct ckpt_extent **out)
{
        struct extents to = {0};

        for (uint64_t i = 0; i < nr_pages; i++) {
                long err;

                if (!memcmp((const char *)a + i * PAGE, (const char *)b + i * PAGE, PAGE))
                        continue;
                err = append(&to, i, i + 1, 1);
                if (err) {
                        free(to.at);
                        return err;
                }
        }
        *out = to.at;
        return (long)to.nr;
}
