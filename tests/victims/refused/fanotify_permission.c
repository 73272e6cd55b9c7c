// needs: cap_sys_admin
// refused: fanotify permission
/* A group that is asked before a file is opened. */
#include "victim.h"
#include <sys/fanotify.h>

int main(void)
{
        int fd = CALL(fanotify_init(FAN_CLASS_CONTENT, O_RDONLY));

        close(made_file("data", 10, 1));
        CALL(fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, in_folder("data")));
        ready_and_wait();
        pass();
}
