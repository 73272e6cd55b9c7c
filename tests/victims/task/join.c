/* clear_child_tid: threads that end after the restore wake the one that joins them. */
#include "victim.h"

enum { NR = 8 };

static void *body(void *argument)
{
        wait_for("go");
        return argument;
}

int main(void)
{
        pthread_t threads[NR], late;
        void *result;

        for (intptr_t i = 0; i < NR; i++)
                threads[i] = started_thread(body, (void *)i);
        ready_and_wait();
        for (intptr_t i = 0; i < NR; i++) {
                ZERO(pthread_join(threads[i], &result));
                CHECK(result == (void *)i);
        }
        ZERO(pthread_create(&late, NULL, body, threads)); /* and new ones can be made */
        ZERO(pthread_join(late, &result));
        CHECK(result == threads);
        pass();
}
