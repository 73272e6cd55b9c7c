// needs: cap_sys_admin
// refused: fanotify
/* A fanotify group. */
#include "victim.h"
#include <sys/fanotify.h>

int main(void)
{
        CALL(fanotify_init(FAN_CLASS_NOTIF, O_RDONLY));
        ready_and_wait();
        pass();
}
