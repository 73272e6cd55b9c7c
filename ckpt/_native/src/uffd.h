/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The requests of userfaultfd of those who track, and of those who fill. Not for Python; comes
 * after native.h.
 */
#ifndef CKPT_UFFD_H
#define CKPT_UFFD_H

#include <linux/userfaultfd.h>
#include <stdint.h>
#include <sys/ioctl.h>

/* Protect `len` bytes, or take their protection and wake who waits; 0 or -errno. */
static inline long uffd_protect(int uffd, uint64_t start, uint64_t len, int on)
{
        struct uffdio_writeprotect arg = {
            .range = {.start = start, .len = len},
            .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
        };

        return ioctl(uffd, UFFDIO_WRITEPROTECT, &arg) < 0 ? -errno : 0;
}

static inline long uffd_register(int uffd, const struct ckpt_extent *range, uint64_t mode)
{
        struct uffdio_register arg = {
            .range = {.start = range->start, .len = range->end - range->start},
            .mode = mode,
        };

        return ioctl(uffd, UFFDIO_REGISTER, &arg) < 0 ? -errno : 0;
}

#endif
