/* Parent and child share a description over fork; a file that the child opened is its own. */
#include "victim.h"

static int fd, told[2];

static void kid(void)
{
        int own = CALL(open(in_folder("data"), O_RDONLY));

        CALL(lseek(own, 7, SEEK_SET));
        tell(told[1]);
        wait_for("go");
        hear(told[0]); /* that the parent has moved the offset */
        CHECK(lseek(fd, 0, SEEK_CUR) == 333);
        CALL(lseek(fd, 444, SEEK_SET));
        CHECK(lseek(own, 0, SEEK_CUR) == 7);
}

int main(void)
{
        fd = made_file("data", 1000, 1);
        CALL(lseek(fd, 111, SEEK_SET));
        CALL(pipe(told));
        pid_t pid = child(kid);
        hear(told[0]);
        ready_and_wait();
        CHECK(lseek(fd, 0, SEEK_CUR) == 111);
        CALL(lseek(fd, 333, SEEK_SET));
        tell(told[1]);
        join_child(pid);
        CHECK(lseek(fd, 0, SEEK_CUR) == 444);
        pass();
}
