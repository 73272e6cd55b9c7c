// refused: unix peer outside --unix-close
/* A socket whose peer is held outside the tree: by a process that left it. */
#include "victim.h"
#include <sys/socket.h>

int main(void)
{
        int ends[2];
        pid_t pid;

        CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
        CHECK((pid = CALL(fork())) >= 0);
        if (pid == 0) {
                if (CALL(fork()) == 0) { /* adopted by an ancestor of the tree */
                        close(ends[1]);
                        wait_for("go");
                        hear(ends[0]);
                }
                _exit(0);
        }
        join_child(pid);
        close(ends[0]);
        ready_and_wait();
        tell(ends[1]);
        pass();
}
