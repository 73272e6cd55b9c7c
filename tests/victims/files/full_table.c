/* A descriptor table without a free number: infection must not need one. A child does the
 * handshake, which needs numbers; parent and child talk by signals, which need none. */
#include "victim.h"
#include <sys/resource.h>

static sigset_t set;

static void hear_signal(void)
{
        int signo;

        ZERO(sigwait(&set, &signo));
}

static void handshake(void)
{
        hear_signal();
        ready_and_wait();
        CALL(kill(getppid(), SIGUSR1));
}

int main(void)
{
        struct rlimit limit = {64, 64};
        int next, last = 0;

        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        CALL(sigprocmask(SIG_BLOCK, &set, NULL));
        pid_t pid = child(handshake);
        CALL(setrlimit(RLIMIT_NOFILE, &limit));
        while ((next = dup(1)) >= 0)
                last = next;
        CHECK(errno == EMFILE && last == 63);
        CALL(kill(pid, SIGUSR1));
        hear_signal();
        CHECK(dup(1) == -1 && errno == EMFILE);
        close(40);
        CHECK(dup(1) == 40);
        join_child(pid);
        pass();
}
