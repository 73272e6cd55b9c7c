/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <stdlib.h>
#include <sys/uio.h>

#include "grow.h"

#define PAGE 4096ULL
enum { HOT = 256 * 1024, MANY = 512 };

struct cursor {
        const struct ckpt_extent *in;
        uint64_t nr;
        uint64_t i;
        uint64_t addr;
};

static void advance(struct cursor *at, uint64_t len)
{
        while (len) {
                uint64_t left = at->in[at->i].end - at->addr;

                if (len < left) {
                        at->addr += len;
                        return;
                }
                len -= left;
                at->i++;
                at->addr = at->i < at->nr ? at->in[at->i].start : 0;
        }
}

/* What comes next, as far as the buffer holds it. Returns the number of elements. */
static unsigned long gather(struct cursor at, struct iovec *iov)
{
        unsigned long nr = 0;
        uint64_t room = HOT;

        while (at.i < at.nr && nr < MANY && room) {
                uint64_t len = at.in[at.i].end - at.addr;

                if (len > room)
                        len = room;
                iov[nr++] = (struct iovec){(void *)(uintptr_t)at.addr, len};
                room -= len;
                advance(&at, len);
        }
        return nr;
}

/* Note the next `len` bytes as copied. */
static long note(struct cursor *at, uint64_t len, struct extents *copied)
{
        while (len) {
                uint64_t part = at->in[at->i].end - at->addr;
                long err;

                if (part > len)
                        part = len;
                err = extents_append(copied, at->addr, at->addr + part, 1);
                if (err)
                        return err;
                advance(at, part);
                len -= part;
        }
        return 0;
}

/* The next page alone, whatever its protection: its length, 0 where there is none. */
static ssize_t read_page(int mem, uint64_t addr, char *buffer)
{
        ssize_t got;

        do
                got = pread(mem, buffer, PAGE, (off_t)addr);
        while (got < 0 && errno == EINTR);
        if (got == (ssize_t)PAGE)
                return got;
        if (got < 0 && (errno == EIO || errno == EFAULT))
                return 0;
        /* An address space without users reads as empty. */
        return got < 0 ? -errno : -ESRCH;
}

static ssize_t read_some(int pid, int mem, const struct cursor *at, char *buffer)
{
        struct iovec remote[MANY];
        struct iovec local = {buffer, HOT};
        ssize_t got = process_vm_readv(pid, &local, 1, remote, gather(*at, remote), 0);

        if (got >= (ssize_t)PAGE)
                return got - got % (ssize_t)PAGE;
        return read_page(mem, at->addr, buffer);
}

long ckpt_copy_running(int pid, int mem, const struct ckpt_extent *in, uint64_t nr_in, int to,
                       uint64_t *done, struct ckpt_extent **out)
{
        struct cursor at = {in, nr_in, 0, nr_in ? in[0].start : 0};
        struct extents copied = {0};
        char *buffer = malloc(HOT);
        long err = buffer ? 0 : -ENOMEM;

        while (!err && at.i < at.nr) {
                ssize_t got = read_some(pid, mem, &at, buffer);

                if (got < 0) {
                        err = got;
                } else if (got == 0) {
                        advance(&at, PAGE);
                } else {
                        err = ckpt_write_all(to, buffer, (size_t)got);
                        if (!err)
                                err = note(&at, (uint64_t)got, &copied);
                        *done += (uint64_t)got;
                }
        }
        free(buffer);
        if (err) {
                free(copied.at);
                return err;
        }
        *out = copied.at;
        return (long)copied.nr;
}
