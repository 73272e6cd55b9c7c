// SPDX-License-Identifier: GPL-2.0-only
/*
 * reborn: a child of which a thread that is not its first calls execve(2) as soon as the others are
 * there, over and over. Each time the kernel ends all others, waits for that, and gives the caller
 * the number of the process; who would attach to it waits meanwhile.
 */
#include "../victim.h"

#include <signal.h>
#include <sys/wait.h>

#define NR_IDLE 6

static void *idle(void *unused)
{
        for (;;)
                pause();
        return unused;
}

static void *become(void *unused)
{
        CALL(execl("/proc/self/exe", "reborn", "again", NULL));
        return unused;
}

int main(int argc, char **argv)
{
        int status;
        pid_t pid;

        if (argc > 1 && !strcmp(argv[1], "again")) {
                for (int i = 0; i < NR_IDLE; i++)
                        started_thread(idle, NULL);
                started_thread(become, NULL);
                idle(NULL);
        }
        pid = CALL(fork());
        if (!pid)
                become(NULL);
        ready_and_wait();
        CHECK(waitpid(pid, &status, WNOHANG) == 0);
        CALL(kill(pid, SIGKILL));
        CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
        pass();
}
