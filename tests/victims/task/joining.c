/* The dump finds the main thread inside pthread_join. */
#include "victim.h"

static pid_t main_tid;

static void *body(UNUSED void *unused)
{
        until_blocked(main_tid);
        ready_and_wait();
        return &main_tid;
}

int main(void)
{
        pthread_t thread;
        void *result;

        main_tid = tid_of_caller();
        ZERO(pthread_create(&thread, NULL, body, NULL));
        ZERO(pthread_join(thread, &result));
        CHECK(result == &main_tid);
        pass();
}
