// needs: cap_setuid
/* Who is told by which signal, and with whose rights: F_SETOWN, F_SETSIG, O_ASYNC. */
#include "victim.h"

#ifndef F_GETOWNER_UIDS
#define F_GETOWNER_UIDS 17
#endif

static int of_thread[2], of_process[2], of_group[2], of_other[2];
static pid_t thread_id;

static void *threaded(void *unused)
{
        sigset_t set;
        siginfo_t info;

        (void)unused;
        thread_id = tid_of_caller();
        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN + 1);
        wait_for("go");
        CHECK(sigwaitinfo(&set, &info) == SIGRTMIN + 1);
        CHECK(info.si_code == POLL_IN && info.si_fd == of_thread[0]);
        return NULL;
}

static void set_owner(int fd, int type, pid_t pid, int signum)
{
        CALL(fcntl(fd, F_SETOWN_EX, &(struct f_owner_ex){type, pid}));
        if (signum)
                CALL(fcntl(fd, F_SETSIG, signum));
        CALL(fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK));
}

static void has_owner(int fd, int type, pid_t pid, uid_t uid, uid_t euid)
{
        struct f_owner_ex owner;
        uid_t uids[2];

        CALL(fcntl(fd, F_GETOWN_EX, &owner));
        CHECK((int)owner.type == type && owner.pid == pid);
        CALL(fcntl(fd, F_GETOWNER_UIDS, uids));
        CHECK(uids[0] == uid && uids[1] == euid);
        CHECK((fcntl(fd, F_GETFL) & (O_ASYNC | O_NONBLOCK)) == (O_ASYNC | O_NONBLOCK));
}

static int signalled(int signum, siginfo_t *info)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, signum);
        return sigtimedwait(&set, info, &(struct timespec){0}) == signum;
}

int main(void)
{
        sigset_t set;
        siginfo_t info;

        sigfillset(&set);
        CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
        CALL(pipe(of_thread));
        CALL(pipe(of_process));
        CALL(pipe(of_group));
        CALL(pipe(of_other));
        pthread_t thread = started_thread(threaded, NULL);
        while (!__atomic_load_n(&thread_id, __ATOMIC_ACQUIRE))
                sched_yield();
        set_owner(of_thread[0], F_OWNER_TID, thread_id, SIGRTMIN + 1);
        set_owner(of_process[0], F_OWNER_PID, getpid(), SIGRTMIN + 2);
        set_owner(of_group[0], F_OWNER_PGRP, getpgrp(), 0);
        /* Named by somebody who may not signal us. Not by setresuid(3), which interrupts the
         * thread. */
        CALL(syscall(SYS_setresuid, 1234, 4321, 0));
        set_owner(of_other[0], F_OWNER_PID, getpid(), SIGRTMIN + 3);
        CALL(syscall(SYS_setresuid, 0, 0, 0));

        ready_and_wait();
        has_owner(of_thread[0], F_OWNER_TID, thread_id, 0, 0);
        has_owner(of_process[0], F_OWNER_PID, getpid(), 0, 0);
        has_owner(of_group[0], F_OWNER_PGRP, getpgrp(), 0, 0);
        has_owner(of_other[0], F_OWNER_PID, getpid(), 1234, 4321);
        CHECK(fcntl(of_process[0], F_GETSIG) == SIGRTMIN + 2);
        for (int i = SIGRTMIN; i < SIGRTMAX; i++)
                CHECK(!signalled(i, &info));
        CHECK(!signalled(SIGIO, &info));
        tell(of_thread[1]);
        tell(of_process[1]);
        CHECK(signalled(SIGRTMIN + 2, &info));
        CHECK(info.si_code == POLL_IN && info.si_fd == of_process[0]);
        tell(of_group[1]);
        CHECK(signalled(SIGIO, &info));
        tell(of_other[1]);
        CHECK(!signalled(SIGRTMIN + 3, &info));
        ZERO(pthread_join(thread, NULL));
        pass();
}
