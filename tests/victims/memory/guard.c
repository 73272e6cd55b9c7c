/* Guard gaps around thread stacks stay gaps: touching one is fatal, the stack itself is whole. */
#include "victim.h"
#include <setjmp.h>

enum { NR = 6 };
static pthread_barrier_t built;
static char *lowest[NR];
static sigjmp_buf back;

static void handler(UNUSED int signo)
{
        siglongjmp(back, 1);
}

static void *body(void *argument)
{
        int n = (int)(intptr_t)argument;
        volatile char local[20000];
        pthread_attr_t attributes;
        void *stack;
        size_t size;

        for (size_t i = 0; i < sizeof(local); i++)
                local[i] = (char)(n + i);
        ZERO(pthread_getattr_np(pthread_self(), &attributes));
        ZERO(pthread_attr_getstack(&attributes, &stack, &size));
        lowest[n] = stack;
        pthread_barrier_wait(&built);
        wait_for("go");
        for (size_t i = 0; i < sizeof(local); i++)
                CHECK(local[i] == (char)(n + i));
        return NULL;
}

int main(void)
{
        pthread_t threads[NR];

        ZERO(pthread_barrier_init(&built, NULL, NR + 1));
        for (int i = 0; i < NR; i++)
                ZERO(pthread_create(&threads[i], NULL, body, (void *)(intptr_t)i));
        pthread_barrier_wait(&built);
        CHECK(signal(SIGSEGV, handler) != SIG_ERR);
        ready_and_wait();
        for (volatile int i = 0; i < NR; i++) {
                ZERO(pthread_join(threads[i], NULL));
                if (!sigsetjmp(back, 1)) {
                        *(volatile char *)(lowest[i] - 1) = 1;
                        CHECK(!"a guard was writable");
                }
        }
        pass();
}
