/* A tree of 100 processes: four sessions, in three of them four branches in several groups, each
 * with seven below it, of which one is a zombie and one is stopped. */
#include "victim.h"

enum { SESSIONS = 3, BRANCHES = 4, LEAVES = 7 };
static int told[2];

static void quiet(void)
{
        tell(told[1]);
        close(told[0]);
        close(told[1]);
}

static void leaf(int n, pid_t session)
{
        if (n == 0)
                _exit(40);
        if (n == 1) {
                close(told[0]);
                close(told[1]);
                CALL((int)raise(SIGSTOP));
                _exit(41);
        }
        if (n == 2)
                CALL(setpgid(0, 0));
        pid_t group = getpgrp();
        quiet();
        wait_for("go");
        CHECK(getsid(0) == session && getpgrp() == group);
        _exit(40 + n);
}

static void branch(int n)
{
        pid_t kids[LEAVES], session = getsid(0);
        siginfo_t info;
        int status;

        CALL(setpgid(0, n % 2 ? 0 : session));
        for (int i = 0; i < LEAVES; i++)
                if ((kids[i] = CALL(fork())) == 0)
                        leaf(i, session);
        CALL(waitid(P_PID, kids[0], &info, WEXITED | WNOWAIT));
        CALL(waitid(P_PID, kids[1], &info, WSTOPPED | WNOWAIT));
        quiet();
        wait_for("go");
        CHECK(getsid(0) == session && getpgrp() == (n % 2 ? getpid() : session));
        CALL(kill(kids[1], SIGCONT));
        for (int i = 0; i < LEAVES; i++) {
                CHECK(CALL(waitpid(kids[i], &status, 0)) == kids[i]);
                CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 40 + i);
        }
        _exit(0);
}

static void leader(void)
{
        pid_t kids[BRANCHES];

        CALL(setsid());
        for (int i = 0; i < BRANCHES; i++)
                if ((kids[i] = CALL(fork())) == 0)
                        branch(i);
        quiet();
        wait_for("go");
        for (int i = 0; i < BRANCHES; i++)
                join_child(kids[i]);
}

int main(void)
{
        pid_t kids[SESSIONS];

        CALL(pipe(told));
        for (int i = 0; i < SESSIONS; i++)
                kids[i] = child(leader);
        for (int i = 0; i < SESSIONS * (1 + BRANCHES * (1 + LEAVES - 2)); i++)
                hear(told[0]);
        close(told[1]);
        hear_end(told[0]);
        close(told[0]);
        ready_and_wait();
        for (int i = 0; i < SESSIONS; i++)
                join_child(kids[i]);
        pass();
}
