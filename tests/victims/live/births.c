// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads and processes are born and end all the time. Each thread counts itself in a page of its
 * own among many, each process ends with the status that it was told; who made them counts as well.
 */
#include "../victim.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define NR_PAGES 2048

static uint64_t (*pages)[512];
static uint64_t nr_born, nr_forked;
static atomic_int stopping;

static void *count(void *argument)
{
        ++*(uint64_t *)argument;
        return NULL;
}

static void *bear(void *argument)
{
        (void)argument;
        while (!atomic_load(&stopping)) {
                pthread_t threads[4];

                for (int i = 0; i < 4; i++)
                        ZERO(pthread_create(&threads[i], NULL, count,
                                            pages[(nr_born + (uint64_t)i) * 7 % NR_PAGES]));
                for (int i = 0; i < 4; i++)
                        ZERO(pthread_join(threads[i], NULL));
                nr_born += 4;
        }
        return NULL;
}

static void *fork_and_wait(void *argument)
{
        (void)argument;
        while (!atomic_load(&stopping)) {
                int told = (int)(nr_forked % 50), status;
                pid_t pid = CALL(fork());

                if (!pid)
                        _exit(told);
                while (waitpid(pid, &status, 0) < 0)
                        CHECK(errno == EINTR);
                CHECK(WIFEXITED(status) && WEXITSTATUS(status) == told);
                nr_forked++;
        }
        return NULL;
}

int main(void)
{
        pthread_t bearer, forker;
        uint64_t counted = 0;

        pages = anonymous(NR_PAGES * sizeof(*pages));
        for (int i = 0; i < NR_PAGES; i++)
                pages[i][1] = pattern(1, (uint64_t)i);
        bearer = started_thread(bear, NULL);
        forker = started_thread(fork_and_wait, NULL);
        ready_and_wait();
        atomic_store(&stopping, 1);
        ZERO(pthread_join(bearer, NULL));
        ZERO(pthread_join(forker, NULL));
        for (int i = 0; i < NR_PAGES; i++) {
                counted += pages[i][0];
                CHECK(pages[i][1] == pattern(1, (uint64_t)i));
        }
        CHECK(counted == nr_born);
        pass();
}
