/* Signals behind descriptors: masks, one that is pending already, flags. */
#include "victim.h"
#include <sys/signalfd.h>

static int made(int flags, int first, int second)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, first);
        sigaddset(&set, second);
        CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
        return CALL(signalfd(-1, &set, flags));
}

int main(void)
{
        struct signalfd_siginfo info;
        int user = made(SFD_NONBLOCK, SIGUSR1, SIGUSR2);
        int real = made(SFD_CLOEXEC, SIGRTMIN + 3, SIGRTMAX);
        union sigval value = {.sival_int = 99};

        CALL(sigqueue(getpid(), SIGRTMAX, value));
        ready_and_wait();
        CHECK(read(user, &info, sizeof(info)) == -1 && errno == EAGAIN);
        CHECK(fcntl(real, F_GETFD) == FD_CLOEXEC);
        CHECK(read(real, &info, sizeof(info)) == sizeof(info));
        CHECK(info.ssi_signo == (uint32_t)SIGRTMAX && info.ssi_int == 99);
        CALL(kill(getpid(), SIGUSR2));
        CHECK(read(user, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGUSR2);
        CALL(kill(getpid(), SIGRTMIN + 3));
        CHECK(read(user, &info, sizeof(info)) == -1 && errno == EAGAIN);
        CHECK(read(real, &info, sizeof(info)) == sizeof(info));
        CHECK(info.ssi_signo == (uint32_t)SIGRTMIN + 3);
        pass();
}
