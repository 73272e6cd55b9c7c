/* Action, mask, flags and restorer of every signal. */
#include "victim.h"

struct action {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        uint64_t mask;
};

static struct action before[65], after[65];

static void one(UNUSED int signo)
{
}

static void two(UNUSED int signo, UNUSED siginfo_t *info, UNUSED void *context)
{
}

static void read_all(struct action *into)
{
        for (int signo = 1; signo <= 64; signo++)
                CALL(syscall(SYS_rt_sigaction, signo, NULL, &into[signo], 8));
}

int main(void)
{
        for (int signo = 1; signo <= 64; signo++) {
                struct sigaction action = {0};

                if (signo == SIGKILL || signo == SIGSTOP || signo == 32 || signo == 33)
                        continue;
                if (signo % 4 == 0) {
                        action.sa_handler = signo % 8 ? SIG_IGN : SIG_DFL;
                } else if (signo % 4 == 1) {
                        action.sa_handler = one;
                        action.sa_flags = SA_RESTART | (signo % 8 == 1 ? SA_NODEFER : 0);
                } else {
                        action.sa_sigaction = two;
                        action.sa_flags = SA_SIGINFO | SA_ONSTACK | (signo == 5 ? SA_RESETHAND : 0);
                }
                sigaddset(&action.sa_mask, 1 + signo % 31);
                sigaddset(&action.sa_mask, 64);
                CALL(sigaction(signo, &action, NULL));
        }
        read_all(before);
        ready_and_wait();
        read_all(after);
        CHECK(memcmp(before, after, sizeof(before)) == 0);
        pass();
}
