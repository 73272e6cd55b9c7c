/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"
#include "stopwait.h"

#include <time.h>

#define SECOND_NS    1000000000LL
#define FIRST_NAP_NS 500000LL
#define LAST_NAP_NS  20000000LL

static void only_sigchld(sigset_t *set)
{
        sigemptyset(set);
        sigaddset(set, SIGCHLD);
}

void stopwait_begin(struct stopwait *wait, int64_t timeout_ns)
{
        int64_t now = ckpt_now_ns();
        sigset_t sigchld;

        only_sigchld(&sigchld);
        pthread_sigmask(SIG_BLOCK, &sigchld, &wait->before);
        wait->until_ns = timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
        wait->nap_ns = FIRST_NAP_NS;
        wait->taken = 0;
        wait->woken = 0;
}

long stopwait_pause(struct stopwait *wait)
{
        int64_t left = wait->until_ns - ckpt_now_ns();
        int64_t nap = left < wait->nap_ns ? left : wait->nap_ns;
        struct timespec limit = {.tv_sec = nap / SECOND_NS, .tv_nsec = nap % SECOND_NS};
        sigset_t sigchld;

        if (left <= 0)
                return -ETIMEDOUT;
        only_sigchld(&sigchld);
        wait->woken = sigtimedwait(&sigchld, NULL, &limit) == SIGCHLD;
        wait->taken |= wait->woken;
        if (wait->woken)
                return 0;
        if (errno == EINTR)
                return -EINTR;
        if (wait->nap_ns < LAST_NAP_NS)
                wait->nap_ns *= 2;
        return 0;
}

void stopwait_end(struct stopwait *wait)
{
        struct sigaction action;
        int wanted = sigismember(&wait->before, SIGCHLD);

        if (!sigaction(SIGCHLD, NULL, &action))
                wanted |= action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
        if (wait->taken && wanted)
                kill(getpid(), SIGCHLD);
        pthread_sigmask(SIG_SETMASK, &wait->before, NULL);
}
