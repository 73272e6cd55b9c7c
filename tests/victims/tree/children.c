/* Parent, children and a grandchild: the same numbers, the same parents, waitable as before. */
#include "victim.h"

static pid_t root;
static int told[2];

static void started(void)
{
        tell(told[1]);
        close(told[0]);
        close(told[1]);
}

static void grandchild(void)
{
        pid_t parent = getppid();

        started();
        wait_for("go");
        CHECK(getppid() == parent);
}

static void middle(void)
{
        pid_t me = getpid();
        pid_t below = child(grandchild);

        started();
        wait_for("go");
        CHECK(getpid() == me && getppid() == root);
        join_child(below);
}

static void leaf(void)
{
        started();
        wait_for("go");
        CHECK(getppid() == root);
        _exit(17);
}

int main(void)
{
        int status;

        root = getpid();
        CALL(pipe(told));
        pid_t first = child(middle), second = child(leaf);
        hear(told[0]);
        hear(told[0]);
        hear(told[0]);
        close(told[1]);
        hear_end(told[0]);
        close(told[0]);
        ready_and_wait();
        join_child(first);
        CHECK(CALL(waitpid(second, &status, 0)) == second);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 17);
        CHECK(waitpid(-1, &status, 0) == -1 && errno == ECHILD);
        pass();
}
