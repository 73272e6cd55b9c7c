/* SPDX-License-Identifier: GPL-2.0-only
 *
 * What the victims of this folder share: duties, each of which checks every result of what it does
 * over and over against what it has to be, in a process of its own, until the test says go.
 */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#include "../victim.h"

#include <poll.h>
#include <stdatomic.h>

#define LONGEST_S 120

struct duty {
        const char *name;
        void (*once)(uint64_t nr);
};

struct shared {
        atomic_int stopping;
        atomic_ulong done[32];
};

static struct shared *shared;

UNUSED static uint64_t draw(uint64_t *state)
{
        *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
        return *state >> 33;
}

/* One round of a duty may wait for something that never comes: the alarm ends it. */
static void perform(const struct duty *duty, int index)
{
        CALL(prctl(PR_SET_PDEATHSIG, SIGKILL));
        alarm(LONGEST_S);
        for (uint64_t nr = 0; !shared->stopping; nr++) {
                duty->once(nr);
                atomic_fetch_add(&shared->done[index], 1);
        }
}

/* Each duty in a child, until go; each has been done meanwhile. */
UNUSED static void perform_all(const struct duty *duties, int nr, const char *only)
{
        pid_t pids[32] = {0};

        signal(SIGPIPE, SIG_IGN);
        shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(shared != MAP_FAILED);
        alarm(LONGEST_S);
        for (int i = 0; i < nr; i++) {
                if (only && !strstr(only, duties[i].name))
                        continue;
                pids[i] = CALL(fork());
                if (!pids[i]) {
                        perform(&duties[i], i);
                        _exit(0);
                }
                while (!shared->done[i])
                        CHECK(!waitpid(pids[i], NULL, WNOHANG));
        }
        ready_and_wait();
        shared->stopping = 1;
        for (int i = 0; i < nr; i++) {
                int status = 0;

                if (pids[i])
                        CHECK(CALL(waitpid(pids[i], &status, 0)) == pids[i]);
                if (status)
                        say("%s: status %#x\n", duties[i].name, status);
                CHECK(!status);
        }
        if (getenv("VERBOSE"))
                for (int i = 0; i < nr; i++)
                        say("%s: %lu\n", duties[i].name, shared->done[i]);
        pass();
}
#endif
