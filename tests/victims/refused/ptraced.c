// refused: traced
/* A child that its parent traces. */
#include "victim.h"
#include <sys/ptrace.h>

static void kid(void)
{
        wait_for("go");
}

int main(void)
{
        pid_t pid = child(kid);

        CALL(ptrace(PTRACE_SEIZE, pid, NULL, NULL));
        ready_and_wait();
        CALL(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL));
        int status;
        CALL(waitpid(pid, &status, __WALL));
        if (WIFSTOPPED(status)) {
                CALL(ptrace(PTRACE_DETACH, pid, NULL, NULL));
                join_child(pid);
        }
        pass();
}
