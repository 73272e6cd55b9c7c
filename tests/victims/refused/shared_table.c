// args: files
// args: fs
// args: memory
// args: handlers
// refused: shared
/* Two processes with one descriptor table, one working directory, one memory. */
#include "victim.h"
#include <sched.h>

static char stack[64 * 1024] __attribute__((aligned(16)));

static int body(UNUSED void *unused)
{
        wait_for("go");
        return 0;
}

int main(UNUSED int argc, char **argv)
{
        char kind = argv[1][1]; /* second letters: i s e a */
        int flags = kind == 'i'   ? CLONE_FILES
                    : kind == 's' ? CLONE_FS
                    : kind == 'e' ? CLONE_VM
                                  : CLONE_VM | CLONE_SIGHAND;
        pid_t pid = CALL(clone(body, stack + sizeof(stack), flags | SIGCHLD, NULL));
        int status;

        ready_and_wait();
        CHECK(CALL(waitpid(pid, &status, 0)) == pid && status == 0);
        pass();
}
