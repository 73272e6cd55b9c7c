// refused: main thread
/* The first thread of the process has ended, the others go on. */
#include "victim.h"

static pthread_t first;

static void *body(UNUSED void *unused)
{
        char path[64], text[256] = "";

        snprintf(path, sizeof(path), "/proc/self/task/%d/stat", getpid());
        do { /* until the leader is a zombie */
                int fd = CALL(open(path, O_RDONLY));
                CALL(read(fd, text, sizeof(text) - 1));
                close(fd);
                sched_yield();
        } while (strrchr(text, ')')[2] != 'Z');
        ready_and_wait();
        ZERO(pthread_join(first, NULL));
        pass();
}

int main(void)
{
        pthread_t thread;

        first = pthread_self();
        ZERO(pthread_create(&thread, NULL, body, NULL));
        pthread_exit(NULL);
}
