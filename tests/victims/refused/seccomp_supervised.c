// refused: supervisor
// unseen: supervisor
/* A filter whose supervisor, its descriptor closed in the process, may answer calls. */
#include "victim.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

int main(void)
{
        struct sock_filter insns[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = {.len = sizeof(insns) / sizeof(*insns), .filter = insns};

        CALL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        close(CALL(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                           &program)));
        ready_and_wait();
        CHECK(syscall(SYS_getppid) == -1 && errno == ENOSYS);
        pass();
}
