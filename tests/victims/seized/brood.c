// A tree in which processes are born and end all the time, in every way that moves them within the
// lists of children: chains whose members each bear the next and end at once, so that it comes up
// to the root (a child subreaper that lets the kernel reap), children reaped out of order, and
// children born for the parent (CLONE_PARENT). All are of one session. On end of file at standard
// input it says whether as many have ended as were born.
#define _GNU_SOURCE
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FEW  4
#define MOST 40

static struct {
        atomic_int going, born, ended, failed;
} *shared;

/* No longer than the test lasts, whatever became of the others: it holds the other end. */
static int goes_on(void)
{
        struct pollfd input = {.fd = 0};

        return shared->going && !poll(&input, 1, 0);
}

/* -1: there are MOST already, the machine is others' too. */
static pid_t bear(unsigned long flags)
{
        pid_t pid;

        if (shared->born++ - shared->ended >= MOST) {
                shared->born--;
                usleep(1000);
                return -1;
        }
        pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
        if (pid < 0) {
                shared->born--;
                shared->failed++;
        }
        return pid;
}

__attribute__((noreturn)) static void end(void)
{
        shared->ended++;
        _exit(0);
}

static void hops(void)
{
        while (goes_on())
                if (bear(0) > 0)
                        end();
        end();
}

static void nurse(void)
{
        signal(SIGCHLD, SIG_DFL);
        while (goes_on()) {
                pid_t pids[FEW];

                for (int i = 0; i < FEW; i++)
                        if (!(pids[i] = bear(0)))
                                end();
                for (int i = FEW; i--;)
                        if (pids[i] > 0)
                                waitpid(pids[i], NULL, 0);
        }
        end();
}

static void cuckoo(void)
{
        while (goes_on())
                if (!bear(CLONE_PARENT))
                        end();
        end();
}

int main(void)
{
        void (*const kinds[])(void) = {hops, hops, nurse, cuckoo};
        char byte;

        shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        shared->going = 1;
        if (setsid() < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1))
                return 1;
        signal(SIGCHLD, SIG_IGN);
        for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
                if (!bear(0))
                        kinds[i]();
        puts("ready");
        fflush(stdout);
        while (read(0, &byte, 1) > 0)
                ;
        shared->going = 0;
        while (wait(NULL) > 0)
                ;
        puts(shared->born == shared->ended && !shared->failed && shared->born > 100 ? "whole"
                                                                                    : "short");
        return 0;
}
