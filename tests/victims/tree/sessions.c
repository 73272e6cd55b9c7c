/* Process groups and sessions, one made by a child, one entered, and who leads them. */
#include "victim.h"

static int told[2];
static pid_t root, group;

static void settled(pid_t session, pid_t pgrp)
{
        tell(told[1]);
        close(told[0]);
        close(told[1]);
        wait_for("go");
        CHECK(getsid(0) == session && getpgrp() == pgrp);
}

static void own_session(void)
{
        CALL(setsid());
        settled(getpid(), getpid());
}

static void own_group(void)
{
        CALL(setpgid(0, 0));
        settled(root, getpid());
}

static void joined_group(void)
{
        CALL(setpgid(0, group));
        settled(root, group);
}

int main(void)
{
        pid_t kids[3];

        root = getpid();
        CALL(pipe(told));
        kids[0] = child(own_session);
        hear(told[0]);
        group = kids[1] = child(own_group);
        hear(told[0]);
        kids[2] = child(joined_group);
        hear(told[0]);
        close(told[1]);
        hear_end(told[0]);
        close(told[0]);
        ready_and_wait();
        CHECK(getsid(0) == root && getpgrp() == root);
        for (int i = 0; i < 3; i++)
                join_child(kids[i]);
        pass();
}
