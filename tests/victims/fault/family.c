/* A small tree with something of everything that a restore builds: a second thread, a child that
 * shares memory and a pipe, a zombie, and descriptors that can be made when all of these are there
 * only, or at the very end. With `stopped`, also a child that is stopped: what a dump that dies has
 * left in that ends only when it goes on. */
#include "victim.h"
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/timerfd.h>

static int ends[2], own[2];
static char *shared;
static pid_t second;
static pthread_barrier_t born;

static void gone(void)
{
        _exit(17);
}

static void member(void)
{
        wait_for("go");
        hear(ends[0]);
        CHECK(filled(shared, PAGE, 2));
}

static void stop(void)
{
        CALL(raise(SIGSTOP));
}

static void *body(void *memory)
{
        second = tid_of_caller();
        pthread_barrier_wait(&born);
        wait_for("go");
        CHECK(filled(memory, 8 * PAGE, 1));
        return NULL;
}

struct late {
        int poller, timer, watcher, pidfd, dead;
};

static void make_late(struct late *late, pid_t kid, pid_t dead)
{
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = 3};

        CALL(pipe(own));
        late->poller = CALL(epoll_create1(0));
        late->timer = CALL(timerfd_create(CLOCK_MONOTONIC, 0));
        late->watcher = CALL(inotify_init1(IN_NONBLOCK));
        late->pidfd = (int)CALL(syscall(SYS_pidfd_open, kid, 0));
        late->dead = (int)CALL(syscall(SYS_pidfd_open, dead, 0));
        CALL(epoll_ctl(late->poller, EPOLL_CTL_ADD, own[0], &event));
        int moved = CALL(dup(own[0]));
        CALL(epoll_ctl(late->poller, EPOLL_CTL_ADD, moved, &event));
        close(moved);
        CALL(timerfd_settime(late->timer, 0, &(struct itimerspec){{0, 0}, {3600, 0}}, NULL));
        /* A folder is there before every restore: a mark that nothing else touches. */
        CHECK(mkdir(in_folder("watched"), 0755) == 0 || errno == EEXIST);
        CHECK(inotify_add_watch(late->watcher, in_folder("watched"), IN_CREATE) == 1);
        CALL(fcntl(own[1], F_SETOWN, kid));
}

static void check_late(const struct late *late, pid_t kid)
{
        struct itimerspec now;
        struct epoll_event events[3];
        char event[4096];

        CHECK(epoll_wait(late->poller, events, 3, 0) == 0);
        tell(own[1]);
        CHECK(epoll_wait(late->poller, events, 3, 0) == 2 && events[0].data.u64 == 3);
        hear(own[0]);
        CALL(timerfd_gettime(late->timer, &now));
        CHECK(now.it_value.tv_sec > 0 && now.it_value.tv_sec < 3600);
        CHECK(fcntl(own[1], F_GETOWN) == kid);
        CHECK(read(late->watcher, event, sizeof(event)) == -1 && errno == EAGAIN);
        CALL(syscall(SYS_pidfd_send_signal, late->pidfd, 0, NULL, 0));
        CHECK(syscall(SYS_pidfd_send_signal, late->dead, 0, NULL, 0) == -1 && errno == ESRCH);
}

static pid_t stopped_child(void)
{
        int status;
        pid_t pid = child(stop);

        CHECK(CALL(waitpid(pid, &status, WUNTRACED)) == pid && WIFSTOPPED(status));
        return pid;
}

static void check_stopped(pid_t pid)
{
        int status;

        CHECK(waitpid(pid, &status, WUNTRACED | WNOHANG) == 0);
        CALL(kill(pid, SIGCONT));
        join_child(pid);
}

int main(int argc, char **argv)
{
        struct late late;
        char *memory = anonymous(8 * PAGE);
        pthread_t thread;
        siginfo_t info;
        int status;

        shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(shared != MAP_FAILED);
        fill(memory, 8 * PAGE, 1);
        fill(shared, PAGE, 2);
        CALL(pipe(ends));
        pid_t zombie = child(gone);
        CALL(waitid(P_PID, zombie, &info, WEXITED | WNOWAIT));
        pid_t kid = child(member);
        pid_t stopped = argc > 1 && !strcmp(argv[1], "stopped") ? stopped_child() : 0;
        pid_t dead = CALL(fork());
        if (dead == 0)
                hear(ends[0]);
        if (dead == 0)
                gone();
        make_late(&late, kid, dead);
        tell(ends[1]);
        CHECK(CALL(waitpid(dead, &status, 0)) == dead);
        ZERO(pthread_barrier_init(&born, NULL, 2));
        ZERO(pthread_create(&thread, NULL, body, memory));
        pthread_barrier_wait(&born);
        until_blocked(second);
        ready_and_wait();
        ZERO(pthread_join(thread, NULL));
        CHECK(filled(memory, 8 * PAGE, 1));
        check_late(&late, kid);
        tell(ends[1]);
        join_child(kid);
        if (stopped)
                check_stopped(stopped);
        CHECK(CALL(waitpid(zombie, &status, 0)) == zombie && status == 17 << 8);
        pass();
}
