// refused: io_uring SQPOLL
/* A ring that a thread of the kernel polls. */
#include "victim.h"
#include <dirent.h>
#include <linux/io_uring.h>

/* The thread is born with our name and gives itself its own when it first runs. */
static int is_named(void)
{
        DIR *tasks = opendir("/proc/self/task");
        struct dirent *task;
        int named = 0;

        while ((task = readdir(tasks))) {
                char path[300], name[32] = "";
                FILE *comm;

                snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task->d_name);
                comm = fopen(path, "r");
                if (!comm)
                        continue;
                named |= fgets(name, sizeof(name), comm) && !strncmp(name, "iou-sqp", 7);
                fclose(comm);
        }
        closedir(tasks);
        return named;
}

int main(void)
{
        struct io_uring_params params = {.flags = IORING_SETUP_SQPOLL, .sq_thread_idle = 1};

        CALL(syscall(SYS_io_uring_setup, 8, &params));
        while (!is_named())
                sched_yield();
        ready_and_wait();
        pass();
}
