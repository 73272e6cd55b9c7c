/* What a parent was told of the stops of its children, it is not told again; what it was not, once.
 * One thread waits for the next news of a child that is stopped. Another child has several threads,
 * and a signal that would end it, were it not stopped. */
#include "victim.h"

#define ENDS 23

static volatile sig_atomic_t told;

static void note(int number, siginfo_t *info, void *context)
{
        (void)number, (void)context;
        if (info->si_code == CLD_STOPPED)
                told++;
}

static void stop_by_default(void)
{
        CALL(raise(SIGSTOP));
        _exit(ENDS);
}

static void stop_by_terminal(void)
{
        CALL(setpgid(0, 0));
        CALL(raise(SIGTSTP));
        _exit(ENDS);
}

static void *idle(void *unused)
{
        for (;;)
                pause();
        return unused;
}

static void *sleeping(void *unused)
{
        CALL(nanosleep(&(struct timespec){.tv_sec = 3600}, NULL));
        return unused;
}

static void stop_with_threads(void)
{
        for (int i = 0; i < 3; i++)
                started_thread(idle, NULL);
        started_thread(sleeping, NULL);
        CALL(raise(SIGSTOP));
        _exit(ENDS);
}

static pid_t stopped_child(void (*body)(void))
{
        int before = told;
        sigset_t none;
        pid_t pid = child(body);

        CALL(sigemptyset(&none));
        while (told == before)
                sigsuspend(&none);
        return pid;
}

static void *await_news(void *pid)
{
        int status;

        CHECK(waitpid(*(pid_t *)pid, &status, WUNTRACED) == *(pid_t *)pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == ENDS);
        return NULL;
}

static void collect(pid_t pid, int number)
{
        int status;

        CHECK(waitpid(pid, &status, WUNTRACED | WNOHANG) == pid);
        CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == number);
}

int main(void)
{
        struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
        pid_t collected, crowd, open_stop;
        pthread_t waiting;
        int status, before;
        sigset_t chld;

        CALL(sigaction(SIGCHLD, &action, NULL));
        CALL(sigemptyset(&chld));
        CALL(sigaddset(&chld, SIGCHLD));
        CALL(sigprocmask(SIG_BLOCK, &chld, NULL));
        collected = stopped_child(stop_by_default);
        collect(collected, SIGSTOP);
        crowd = stopped_child(stop_with_threads);
        collect(crowd, SIGSTOP);
        CALL(kill(crowd, SIGTERM));
        open_stop = stopped_child(stop_by_terminal);
        CALL(sigprocmask(SIG_UNBLOCK, &chld, NULL));
        waiting = started_thread(await_news, &collected);
        before = told;
        ready_and_wait();
        CHECK(told == before);
        CHECK(waitpid(crowd, &status, WUNTRACED | WNOHANG) == 0);
        collect(open_stop, SIGTSTP);
        CHECK(waitpid(open_stop, &status, WUNTRACED | WNOHANG) == 0);
        CHECK(pthread_tryjoin_np(waiting, NULL) == EBUSY);
        CALL(kill(collected, SIGCONT));
        ZERO(pthread_join(waiting, NULL));
        CALL(kill(crowd, SIGCONT));
        CHECK(CALL(waitpid(crowd, &status, 0)) == crowd);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
        CALL(kill(open_stop, SIGCONT));
        CHECK(CALL(waitpid(open_stop, &status, 0)) == open_stop);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == ENDS);
        pass();
}
