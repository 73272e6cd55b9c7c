// refused: inotify
/* A watch on a directory. */
#include "victim.h"
#include <sys/inotify.h>

int main(void)
{
        int fd = CALL(inotify_init1(0));

        CALL(inotify_add_watch(fd, in_folder("."), IN_CREATE));
        ready_and_wait();
        pass();
}
