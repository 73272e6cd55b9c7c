// dump: --file-locks
// restore: --file-locks
/* flock(2) locks: exclusive and shared, of one process and shared with a child. */
#include "victim.h"
#include <sys/file.h>

static void kid(void)
{
        wait_for("go");
}

int main(void)
{
        int exclusive = made_file("a", 10, 1), shared = made_file("b", 10, 1);

        CALL(flock(exclusive, LOCK_EX));
        CALL(flock(shared, LOCK_SH));
        pid_t pid = child(kid);
        ready_and_wait();
        int a = CALL(open(in_folder("a"), O_RDWR)), b = CALL(open(in_folder("b"), O_RDWR));
        CHECK(flock(a, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK);
        CHECK(flock(b, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
        CALL(flock(b, LOCK_SH | LOCK_NB));
        join_child(pid);
        close(exclusive);
        CALL(flock(a, LOCK_EX | LOCK_NB));
        pass();
}
