/* A session whose leader is dead and reaped, a process group whose leader is: they live on in their
 * members, whose parent is now the root (a subreaper). */
#include "victim.h"

static int told[2];

static void member(pid_t session, pid_t pgrp, pid_t root)
{
        while (getppid() != root) /* until the leader is dead */
                sched_yield();
        tell(told[1]);
        close(told[0]);
        close(told[1]);
        wait_for("go");
        CHECK(getppid() == root && getsid(0) == session && getpgrp() == pgrp);
        _exit(0);
}

static void session_leader(void)
{
        pid_t root = getppid();

        CALL(setsid());
        if (CALL(fork()) == 0)
                member(getsid(0), getpgrp(), root);
}

static void group_leader(void)
{
        pid_t root = getppid();

        CALL(setpgid(0, 0));
        if (CALL(fork()) == 0)
                member(getsid(0), getpgrp(), root);
}

int main(void)
{
        int status;

        CALL(prctl(PR_SET_CHILD_SUBREAPER, 1));
        CALL(pipe(told));
        join_child(child(session_leader));
        join_child(child(group_leader));
        hear(told[0]);
        hear(told[0]);
        close(told[1]);
        hear_end(told[0]);
        close(told[0]);
        ready_and_wait();
        for (int i = 0; i < 2; i++) {
                CALL(wait(&status));
                CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        }
        pass();
}
