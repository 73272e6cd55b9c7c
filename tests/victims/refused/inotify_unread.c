// refused: inotify "events that are not read"
// unseen: inotify "events that are not read"
/* An event that nobody has read: it could not be put back. */
#include "victim.h"
#include <sys/inotify.h>

int main(void)
{
        struct inotify_event event[16];
        int fd = CALL(inotify_init1(0));

        CALL(mkdir(in_folder("watched"), 0755));
        CALL(inotify_add_watch(fd, in_folder("watched"), IN_CREATE));
        CALL(mkdir(in_folder("watched/new"), 0755));
        ready_and_wait();
        CHECK(read(fd, event, sizeof(event)) > 0 && event[0].mask == (IN_CREATE | IN_ISDIR));
        pass();
}
