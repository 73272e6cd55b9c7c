// refused: seccomp
/* A filter of system calls that lets everything pass. */
#include "victim.h"
#include <linux/filter.h>
#include <linux/seccomp.h>

int main(void)
{
        struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        struct sock_fprog program = {.len = 1, .filter = &allow};

        CALL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        CALL(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
        ready_and_wait();
        CHECK(prctl(PR_GET_SECCOMP) == 2);
        pass();
}
