// refused: seccomp io_uring
// unseen: seccomp io_uring
/* A ring in a process under a seccomp filter that allows everything. */
#include "victim.h"
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>

int main(void)
{
        struct io_uring_params params = {0};
        struct sock_filter code[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
        struct sock_fprog program = {1, code};

        CALL(syscall(SYS_io_uring_setup, 8, &params));
        CALL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        CALL(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
        ready_and_wait();
        pass();
}
