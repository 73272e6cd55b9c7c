/* A file that is open, mapped shared and mapped private at once, by two processes. */
#include "victim.h"

static char *shared, *private;
static int fd;

static void kid(void)
{
        wait_for("go");
        CHECK(private[0] == 'p' && shared[PAGE] == 's');
        CHECK(lseek(fd, 0, SEEK_CUR) == 99);
}

int main(void)
{
        fd = made_file("data", 4 * PAGE, 1);
        shared = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        private = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
        CHECK(shared != MAP_FAILED && private != MAP_FAILED);
        private[0] = 'p';
        shared[PAGE] = 's';
        CALL(lseek(fd, 99, SEEK_SET));
        pid_t pid = child(kid);
        ready_and_wait();
        join_child(pid);
        CHECK(private[0] == 'p' && shared[0] != 'p' && private[PAGE] == 's');
        pass();
}
