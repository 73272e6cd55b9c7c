// refused: seccomp strict
/* A child in strict mode: it may read, write and end. */
#include "victim.h"
#include <linux/seccomp.h>

int main(void)
{
        int go[2], built[2], status;
        char byte;

        CALL(pipe2(go, O_CLOEXEC));
        CALL(pipe2(built, O_CLOEXEC));
        pid_t pid = CALL(fork());
        if (pid == 0) {
                CALL(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
                tell(built[1]);
                hear(go[0]);
                syscall(SYS_exit, 0);
        }
        CHECK(CALL(read(built[0], &byte, 1)) == 1);
        ready_and_wait();
        tell(go[1]);
        CHECK(CALL(waitpid(pid, &status, 0)) == pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        pass();
}
