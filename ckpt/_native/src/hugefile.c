/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "grow.h"

enum { STEP = 256 * 1024 };

static int all_zero(const char *at, size_t len)
{
        return !len || (!at[0] && !memcmp(at, at + 1, len - 1));
}

/* 1: something is in the page at `at`, 0: nothing. */
static long holds_data(int lfd, uint64_t at, uint64_t page, char *buffer)
{
        for (uint64_t done = 0; done < page;) {
                size_t len = page - done < STEP ? page - done : STEP;
                ssize_t n = pread(lfd, buffer, len, (off_t)(at + done));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return 0;
                if (!all_zero(buffer, (size_t)n))
                        return 1;
                done += (uint64_t)n;
        }
        return 0;
}

/* How many pages hold anything at most; elsewhere than in hugetlbfs nothing tells. */
static long nr_held(int lfd, uint64_t page, uint64_t *nr)
{
        struct statfs fs;
        struct stat st;

        if (fstatfs(lfd, &fs) < 0 || fstat(lfd, &st) < 0)
                return -errno;
        *nr = fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)st.st_blocks * 512 / page : UINT64_MAX;
        return 0;
}

long ckpt_huge_data(int lfd, uint64_t size, uint64_t page, struct ckpt_extent **out)
{
        struct extents found = {0};
        char *buffer = malloc(STEP);
        uint64_t left = 0;
        long err = buffer ? nr_held(lfd, page, &left) : -ENOMEM;

        for (uint64_t at = 0; !err && left && at < size; at += page) {
                err = holds_data(lfd, at, page, buffer);
                if (err > 0) {
                        left--;
                        err = extents_append(&found, at, at + page, 1);
                }
        }
        free(buffer);
        if (err) {
                free(found.at);
                return err;
        }
        *out = found.at;
        return (long)found.nr;
}

long ckpt_huge_fill(int from, uint64_t from_at, int to, uint64_t to_at, uint64_t len, uint64_t page)
{
        uint64_t start = to_at & ~(page - 1);
        uint64_t whole = (to_at + len - start + page - 1) & ~(page - 1);
        char *memory =
            mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, to, (off_t)start);
        char *at = memory + (to_at - start);
        long err = 0;

        if (memory == MAP_FAILED)
                return -errno;
        while (len && !err) {
                ssize_t n = pread(from, at, len, (off_t)from_at);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0) {
                        err = !n ? -EIO : errno == EFAULT ? -ENOMEM : -errno;
                        break;
                }
                at += n;
                from_at += (uint64_t)n;
                len -= (uint64_t)n;
        }
        munmap(memory, whole);
        return err;
}
