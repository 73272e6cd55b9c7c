// Two chains of threads, each of which starts the next one and ends at once, until the end of file
// at standard input. Then it says whether as many have run as were started.
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static pthread_attr_t detached;
static atomic_int started, ended, failed;

static void *hop(void *nothing)
{
        struct pollfd input = {.fd = 0};
        pthread_t next;

        if (!poll(&input, 1, 0)) {
                started++;
                if (pthread_create(&next, &detached, hop, nothing))
                        failed = 1;
        }
        ended++;
        return NULL;
}

int main(void)
{
        struct pollfd input = {.fd = 0};
        pthread_t first;

        pthread_attr_init(&detached);
        pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        for (int i = 0; i < 2; i++) {
                started++;
                if (pthread_create(&first, &detached, hop, NULL))
                        return 1;
        }
        puts("ready");
        fflush(stdout);
        while (poll(&input, 1, -1) < 1)
                ;
        while (started > ended && !failed)
                usleep(1000);
        puts(!failed && started > 20 ? "whole" : "harmed");
        return 0;
}
