// Sleeps with as many threads as its argument says.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *sleeper(void *nothing)
{
        while (!nothing)
                pause();
        return nothing;
}

int main(int argc, char **argv)
{
        int nr_threads = argc > 1 ? atoi(argv[1]) : 1;
        pthread_attr_t small;

        pthread_attr_init(&small);
        pthread_attr_setstacksize(&small, 65536);
        for (int i = 1; i < nr_threads; i++) {
                pthread_t thread;

                if (pthread_create(&thread, &small, sleeper, NULL))
                        return 1;
        }
        puts("ready");
        fflush(stdout);
        sleeper(NULL);
}
