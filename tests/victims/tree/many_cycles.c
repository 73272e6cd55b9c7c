// cycles: 5
/* Threads, a child, memory and a pipe, dumped and restored again and again. */
#include "victim.h"

static int ends[2];

static void kid(void)
{
        close(ends[1]);
        wait_for("go");
        hear(ends[0]);
}

static void *body(void *memory)
{
        wait_for("go");
        CHECK(filled(memory, 1 << 20, 1));
        return NULL;
}

int main(void)
{
        void *memory = anonymous(1 << 20);
        pthread_t thread;

        fill(memory, 1 << 20, 1);
        CALL(pipe(ends));
        pid_t pid = child(kid);
        thread = started_thread(body, memory);
        until_blocked(pid);
        ready_and_wait();
        ZERO(pthread_join(thread, NULL));
        tell(ends[1]);
        join_child(pid);
        pass();
}
