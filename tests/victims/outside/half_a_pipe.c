/* A pipe whose other end is held outside the tree: by a process that left it. */
#include "victim.h"

int main(void)
{
        int ends[2];
        pid_t pid;

        CALL(pipe(ends));
        CHECK((pid = CALL(fork())) >= 0);
        if (pid == 0) {
                if (CALL(fork()) == 0) { /* adopted by an ancestor of the tree */
                        close(ends[1]);
                        wait_for("go");
                }
                _exit(0);
        }
        join_child(pid);
        close(ends[0]);
        ready_and_wait();
        pass();
}
