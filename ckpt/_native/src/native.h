/* SPDX-License-Identifier: GPL-2.0-only
 *
 * The compiler's way into the extension's headers: guard, includes, order.
 *
 * Every function of the extension returns -errno on failure unless its header says otherwise, and
 * none touches Python: cffi calls it without the GIL.
 */
#ifndef CKPT_NATIVE_H
#define CKPT_NATIVE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* Debian 12's headers are older than the call; its number is the same everywhere. */
#ifndef __NR_mseal
#define __NR_mseal 462
#endif

#include "wire_check.h"

#include "kernel.h"
#include "pages.h"
#include "spawn.h"
#include "processor.h"
#include "probe.h"
#include "ptrace.h"
#include "again.h"
#include "freeze.h"
#include "births.h"
#include "descriptors.h"
#include "guard.h"
#include "nameless.h"
#include "visit.h"
#include "fault.h"
#include "sets.h"
#include "track.h"
#include "syncwp.h"
#include "maps.h"
#include "running.h"
#include "chain.h"
#include "sockets.h"
#include "compare.h"
#include "answer.h"
#include "lazy.h"
#include "armed.h"
#include "live.h"
#include "liveshared.h"
#include "sysv.h"
#include "sysvobj.h"
#include "hugefile.h"
#include "ring.h"
#include "epoll.h"
#include "watch.h"

/* Result of a libc call in this room's convention. */
static inline long ckpt_result(long result)
{
        return result < 0 ? -(long)errno : result;
}

static inline int64_t ckpt_now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
