/* Children that have ended and were not waited for: exit codes and fatal signals are still there.
 */
#include "victim.h"

static void end_17(void)
{
        _exit(17);
}

static void end_killed(void)
{
        kill(getpid(), SIGKILL);
}

static void end_terminated_in_own_group(void)
{
        CALL(setpgid(0, 0));
        kill(getpid(), SIGTERM);
}

static void end_as_session_leader(void)
{
        CALL(setsid());
        _exit(3);
}

int main(void)
{
        void (*bodies[])(void) = {end_17, end_killed, end_terminated_in_own_group,
                                  end_as_session_leader};
        int expected[] = {17 << 8, SIGKILL, SIGTERM, 3 << 8}, status;
        pid_t kids[4];
        siginfo_t info;

        for (int i = 0; i < 4; i++) {
                kids[i] = child(bodies[i]);
                CALL(waitid(P_PID, kids[i], &info, WEXITED | WNOWAIT));
        }
        ready_and_wait();
        for (int i = 3; i >= 0; i--) {
                CHECK(CALL(waitpid(kids[i], &status, 0)) == kids[i]);
                CHECK(status == expected[i]);
        }
        pass();
}
