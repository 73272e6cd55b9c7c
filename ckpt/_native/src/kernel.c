/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <sys/uio.h>

long ckpt_pidfd_getfd(int pidfd, int fd)
{
        ckpt_fault_point();
        return ckpt_result(syscall(__NR_pidfd_getfd, pidfd, fd, 0));
}

long ckpt_kcmp(int pid1, int pid2, int type, unsigned long idx1, unsigned long idx2)
{
        return ckpt_result(syscall(__NR_kcmp, pid1, pid2, type, idx1, idx2));
}

long ckpt_call(long nr, unsigned long a, unsigned long b, unsigned long c, unsigned long d,
               unsigned long e, unsigned long f)
{
        return ckpt_result(syscall(nr, a, b, c, d, e, f));
}

long ckpt_vm_read(int pid, uint64_t addr, void *to, size_t len)
{
        struct iovec here = {.iov_base = to, .iov_len = len};
        struct iovec there = {.iov_base = (void *)(uintptr_t)addr, .iov_len = len};

        return ckpt_result(process_vm_readv(pid, &here, 1, &there, 1, 0));
}

long ckpt_vm_write(int pid, uint64_t addr, const void *from, size_t len)
{
        struct iovec here = {.iov_base = (void *)(uintptr_t)from, .iov_len = len};
        struct iovec there = {.iov_base = (void *)(uintptr_t)addr, .iov_len = len};

        ckpt_fault_point();
        return ckpt_result(process_vm_writev(pid, &here, 1, &there, 1, 0));
}
