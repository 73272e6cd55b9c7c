/* An orphaned process group: its only member leads a session of its own, so that nobody is there
 * who could continue it, and a stop from the terminal does not stop it. Another orphan is stopped,
 * and neither continued nor told that it lost anybody (SIGHUP). */
#include "victim.h"

static volatile sig_atomic_t hung_up, continued;

static void note(int number)
{
        if (number == SIGHUP)
                hung_up = 1;
        else
                continued = 1;
}

static void ignores_stops(void)
{
        CALL(raise(SIGTSTP));
        CALL(raise(SIGTTIN));
        CALL(raise(SIGTTOU));
}

static int told[2], go[2];

static void leader(void)
{
        CALL(setsid());
        ignores_stops();
        tell(told[1]);
        hear(go[0]);
        ignores_stops();
        CHECK(!hung_up && !continued && getsid(0) == getpid());
}

static void stopped(void)
{
        CALL(setsid());
        tell(told[1]);
        CALL(raise(SIGSTOP));
        CHECK(!hung_up && continued);
}

int main(void)
{
        struct sigaction action = {.sa_handler = note};
        pid_t one, other;
        int status;

        CALL(sigaction(SIGHUP, &action, NULL));
        CALL(sigaction(SIGCONT, &action, NULL));
        CALL(pipe(told));
        CALL(pipe(go));
        one = child(leader);
        other = child(stopped);
        hear(told[0]);
        hear(told[0]);
        CHECK(CALL(waitpid(other, &status, WUNTRACED)) == other && WIFSTOPPED(status));
        until_blocked(one);
        ready_and_wait();
        CHECK(waitpid(-1, &status, WNOHANG | WCONTINUED) == 0);
        tell(go[1]);
        join_child(one);
        CALL(kill(other, SIGCONT));
        join_child(other);
        pass();
}
