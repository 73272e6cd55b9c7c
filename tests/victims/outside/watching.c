/* A watch on a folder, shared by three processes. */
#include "victim.h"
#include <sys/inotify.h>

static void waits(void)
{
        wait_for("go");
}

int main(void)
{
        char event[4096];
        int fd = CALL(inotify_init1(0));

        CALL(mkdir(in_folder("watched"), 0755));
        CALL(inotify_add_watch(fd, in_folder("watched"), IN_CREATE));
        pid_t one = child(waits), other = child(waits);
        ready_and_wait();
        CALL(mkdir(in_folder("watched/new"), 0755));
        CHECK(read(fd, event, sizeof(event)) > 0);
        join_child(one);
        join_child(other);
        pass();
}
