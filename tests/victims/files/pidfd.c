/*
 * Descriptors of processes: of a child, of the parent, of a sibling that is born later, of a
 * thread, of a zombie, of processes that have been reaped and how they had ended.
 */
#include "victim.h"
#include <poll.h>
#include <sys/ioctl.h>

#define PIDFD_THREAD O_EXCL

static int parents, threads_fd;

static int opened(pid_t pid, unsigned int flags)
{
        return (int)CALL(syscall(SYS_pidfd_open, pid, flags));
}

static int of(int fd)
{
        char path[64], line[128];
        int pid = -2;

        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
        FILE *file = fopen(path, "re");
        CHECK(file != NULL);
        while (fgets(line, sizeof(line), file))
                if (sscanf(line, "Pid: %d", &pid) == 1)
                        break;
        fclose(file);
        return pid;
}

static int ended(int fd)
{
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

        return poll(&poll_fd, 1, 0) == 1 && poll_fd.revents & POLLIN;
}

static uint64_t inode(int fd)
{
        struct stat seen;

        CALL(fstat(fd, &seen));
        return seen.st_ino;
}

/* PIDFD_GET_INFO: the wait status of a dead one, -1 where the kernel does not tell. */
static int status_of(int fd)
{
        struct {
                uint64_t mask, cgroup;
                uint32_t ids[11];
                int32_t status;
        } info = {.mask = 1 << 3};

        if (ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE, 0xFF, 11, 64), &info))
                return -1;
        return info.mask & 1 << 3 ? info.status : -1;
}

static void ends_with_9(void)
{
        _exit(9);
}

static void is_killed(void)
{
        signal(SIGTERM, SIG_DFL);
        raise(SIGTERM);
}

static void waits(void)
{
        wait_for("go");
        CHECK(of(parents) == getppid() && !ended(parents));
}

static void *threaded(void *unused)
{
        (void)unused;
        threads_fd = opened(tid_of_caller(), PIDFD_THREAD);
        wait_for("go");
        return NULL;
}

int main(void)
{
        siginfo_t info;
        int status;

        parents = opened(getpid(), 0);
        pid_t elder = child(waits);
        int elders = opened(elder, O_NONBLOCK), again = opened(elder, 0);
        pid_t younger = child(waits);
        int youngers = opened(younger, 0);
        pthread_t thread = started_thread(threaded, NULL);
        while (!__atomic_load_n(&threads_fd, __ATOMIC_ACQUIRE))
                sched_yield();
        pid_t first = child(ends_with_9), second = child(is_killed);
        int dead = opened(first, 0), dead_too = opened(first, 0), killed = opened(second, 0);
        CHECK(CALL(waitpid(first, &status, 0)) == first);
        CHECK(CALL(waitpid(second, &status, 0)) == second);
        pid_t undead = child(ends_with_9);
        int zombie = opened(undead, 0);
        CALL(waitid(P_PID, (id_t)undead, &info, WEXITED | WNOWAIT));
        CHECK(of(dead) == -1 && ended(killed) && inode(dead) == inode(dead_too));
        int statuses[] = {status_of(dead), status_of(killed)};
        CHECK(statuses[0] == -1 || (statuses[0] == 9 << 8 && statuses[1] == SIGTERM));

        ready();
        wait_for("go");
        CHECK(of(parents) == getpid() && of(elders) == elder && of(again) == elder);
        CHECK(of(youngers) == younger);
        CHECK((fcntl(elders, F_GETFL) & O_NONBLOCK) && !(fcntl(again, F_GETFL) & O_NONBLOCK));
        CHECK(fcntl(threads_fd, F_GETFL) & PIDFD_THREAD);
        CHECK(of(dead) == -1 && of(dead_too) == -1 && of(killed) == -1);
        CHECK(ended(dead) && ended(dead_too) && ended(killed));
        CHECK(inode(dead) == inode(dead_too) && inode(dead) != inode(killed));
        CHECK(status_of(dead) == statuses[0] && status_of(dead_too) == statuses[0]);
        CHECK(status_of(killed) == statuses[1]);
        CHECK(of(zombie) == undead && ended(zombie));
        CHECK(CALL(waitpid(undead, &status, 0)) == undead && WEXITSTATUS(status) == 9);
        CHECK(of(zombie) == -1);
        CALL(syscall(SYS_pidfd_send_signal, elders, 0, NULL, 0));
        ZERO(pthread_join(thread, NULL));
        join_child(elder);
        CHECK(ended(elders) && of(again) == -1);
        join_child(younger);
        pass();
}
