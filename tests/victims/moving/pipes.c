/* Two processes that pass data through pipes as fast as they can, in both directions. */
#include "victim.h"

static int there[2], back[2];

static void echo(void)
{
        uint64_t words[100];

        close(there[1]);
        close(back[0]);
        for (;;) {
                size_t have = 0;
                while (have < sizeof(words)) {
                        ssize_t got =
                            CALL(read(there[0], (char *)words + have, sizeof(words) - have));
                        if (got == 0)
                                return;
                        have += got;
                }
                for (int i = 0; i < 100; i++)
                        words[i]++;
                CHECK(write(back[1], words, sizeof(words)) == sizeof(words));
        }
}

static void *talker(void *stop)
{
        uint64_t words[100];

        for (uint64_t round = 0; !*(volatile int *)stop; round++) {
                fill(words, sizeof(words), round);
                CHECK(write(there[1], words, sizeof(words)) == sizeof(words));
                for (size_t have = 0; have < sizeof(words);)
                        have += CALL(read(back[0], (char *)words + have, sizeof(words) - have));
                for (int i = 0; i < 100; i++)
                        CHECK(words[i] == pattern(round, i) + 1);
        }
        return NULL;
}

int main(void)
{
        static int stop;
        pthread_t thread;

        CALL(pipe(there));
        CALL(pipe(back));
        pid_t pid = child(echo);
        close(there[0]);
        close(back[1]);
        ZERO(pthread_create(&thread, NULL, talker, &stop));
        ready_and_wait();
        __atomic_store_n(&stop, 1, __ATOMIC_SEQ_CST);
        ZERO(pthread_join(thread, NULL));
        close(there[1]);
        join_child(pid);
        pass();
}
