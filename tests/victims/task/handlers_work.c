/* Signals that arrive after the restore run their handlers, SIGSEGV and SIGCHLD included. */
#include "victim.h"
#include <setjmp.h>

static volatile sig_atomic_t seen[65];
static sigjmp_buf back;

static void handler(int signo)
{
        seen[signo]++;
        if (signo == SIGSEGV)
                siglongjmp(back, 1);
}

static void nothing(void)
{
}

int main(void)
{
        int signals[] = {SIGUSR1, SIGSEGV, SIGCHLD, SIGALRM};
        char *forbidden = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        for (int i = 0; i < 4; i++)
                CHECK(signal(signals[i], handler) != SIG_ERR);
        ready_and_wait();
        CALL((int)raise(SIGUSR1));
        if (!sigsetjmp(back, 1))
                *(volatile char *)forbidden = 1;
        join_child(child(nothing));
        CALL(kill(getpid(), SIGALRM));
        for (int i = 0; i < 4; i++)
                CHECK(seen[signals[i]] == 1);
        pass();
}
