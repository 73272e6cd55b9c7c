/* A robust mutex whose owner dies after the restore: the next one learns of it. */
#include "victim.h"

static pthread_mutex_t mutex;
static pthread_barrier_t built;

static void *owner(UNUSED void *unused)
{
        ZERO(pthread_mutex_lock(&mutex));
        pthread_barrier_wait(&built);
        wait_for("go");
        return NULL; /* with the mutex held */
}

int main(void)
{
        pthread_mutexattr_t attributes;
        pthread_t thread;
        void *head, *head_now;
        size_t length;

        ZERO(pthread_mutexattr_init(&attributes));
        ZERO(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST));
        ZERO(pthread_mutex_init(&mutex, &attributes));
        ZERO(pthread_barrier_init(&built, NULL, 2));
        ZERO(pthread_create(&thread, NULL, owner, NULL));
        pthread_barrier_wait(&built);
        CALL(syscall(SYS_get_robust_list, 0, &head, &length));
        ready_and_wait();
        CALL(syscall(SYS_get_robust_list, 0, &head_now, &length));
        CHECK(head == head_now && head != NULL);
        CHECK(pthread_mutex_lock(&mutex) == EOWNERDEAD);
        ZERO(pthread_join(thread, NULL));
        pass();
}
