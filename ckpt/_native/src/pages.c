/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "grow.h"
#include "pagemap.h"

long ckpt_scan_pages(int pagemap, const struct ckpt_extent *in, uint64_t nr_in, int anonymous,
                     struct ckpt_extent **out)
{
        struct extents found = {0};
        struct content to = {
            .pagemap = pagemap, .has_scan = 1, .anonymous = anonymous, .populated = &found};

        for (uint64_t i = 0; i < nr_in; i++) {
                long err = ckpt_find_content(&to, in[i], 0, 0);

                if (err) {
                        free(found.at);
                        return err;
                }
        }
        *out = found.at;
        return (long)found.nr;
}

long ckpt_scan_guards(int pagemap, uint64_t start, uint64_t end, struct ckpt_extent **out)
{
        enum { AT_ONCE = 64 };
        struct page_region regions[AT_ONCE];
        struct extents found = {0};
        struct pm_scan_arg arg = {
            .size = sizeof(arg),
            .end = end,
            .walk_end = start,
            .vec = (uintptr_t)regions,
            .vec_len = AT_ONCE,
            .category_mask = PAGE_IS_GUARD,
            .return_mask = PAGE_IS_GUARD,
        };
        long err = 0;

        while (!err && arg.walk_end < end) {
                arg.start = arg.walk_end;
                long nr = ioctl(pagemap, PAGEMAP_SCAN, &arg);

                if (nr < 0) {
                        err = -errno;
                        break;
                }
                for (long i = 0; !err && i < nr; i++)
                        err = extents_append(&found, regions[i].start, regions[i].end, 1);
        }
        *out = found.at;
        return err == -EINVAL || err == -ENOTTY ? 0 : err ? err : (long)found.nr;
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
        int answered = 0;

        while (done < len) {
                struct pollfd waits[2] = {{.fd = from, .events = POLLIN},
                                          {.fd = sock, .events = POLLIN}};
                struct pollfd full = {.fd = to, .events = POLLOUT};
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
                if (!waits[0].revents && waits[1].revents) {
                        /* poll(2) looks at one after the other: bytes may have come to `from`
                         * between its two looks. After the answer no more do. */
                        if (answered)
                                break;
                        answered = 1;
                        continue;
                }
                /* There is something to take: so `to` is a pipe that is full. */
                if (waits[0].revents && poll(&full, 1, -1) < 0 && errno != EINTR)
                        return -errno;
        }
        return (long)done;
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
                                err = ckpt_write_all(to, buffer, (size_t)n);
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
                err = extents_append(&to, i, i + 1, 1);
                if (err) {
                        free(to.at);
                        return err;
                }
        }
        *out = to.at;
        return (long)to.nr;
}
