// needs: cap_sys_admin
// args: net
// args: uts
// args: ipc
// args: mnt
// args: user
// args: pid
// args: cgroup
// refused: namespace
/* A namespace that is not the one of ckpt. */
#include "victim.h"
#include <sched.h>

static void kid(void)
{
        wait_for("go");
}

int main(UNUSED int argc, char **argv)
{
        static const struct {
                const char *name;
                int flag;
        } kinds[] = {{"net", CLONE_NEWNET},      {"uts", CLONE_NEWUTS},   {"ipc", CLONE_NEWIPC},
                     {"mnt", CLONE_NEWNS},       {"user", CLONE_NEWUSER}, {"pid", CLONE_NEWPID},
                     {"cgroup", CLONE_NEWCGROUP}};

        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
                if (!strcmp(kinds[i].name, argv[1]))
                        CALL(unshare(kinds[i].flag));
        pid_t pid = child(kid); /* the first of a pid namespace */
        ready_and_wait();
        join_child(pid);
        pass();
}
