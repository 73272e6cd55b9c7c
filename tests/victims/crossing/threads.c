// A thread in each of many calls while others look whether it crosses the border of the kernel: no
// call may come back early or with EINTR, reads are whole, and the thread that spins goes on.
#include "victim.h"

#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/sem.h>
#include <sys/socket.h>

#define FILE_SIZE (1UL << 20)

static int reading[2], waking[2], sockets[2], watch, semaphore;
static atomic_int going = 1;
static atomic_long spins, direct_reads;
static _Atomic pid_t tids[8];
static atomic_int nr_tids;

static void begin(void)
{
        tids[atomic_fetch_add(&nr_tids, 1)] = tid_of_caller();
}

static void *in_pipe(void *nothing)
{
        begin();
        hear(reading[0]);
        return nothing;
}

static void *in_epoll(void *nothing)
{
        struct epoll_event event = {.events = EPOLLIN};
        int fd = CALL(epoll_create1(EPOLL_CLOEXEC));

        CALL(epoll_ctl(fd, EPOLL_CTL_ADD, waking[0], &event));
        begin();
        CHECK(CALL(epoll_wait(fd, &event, 1, -1)) == 1);
        return nothing;
}

/* A timeout makes an interrupted read of a socket return EINTR. */
static void *in_socket(void *nothing)
{
        struct timeval limit = {.tv_sec = 1000};

        CALL(setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
        begin();
        hear(sockets[0]);
        return nothing;
}

static void *in_inotify(void *nothing)
{
        char event[512];

        begin();
        CALL(read(watch, event, sizeof(event)));
        return nothing;
}

static void *in_semaphore(void *nothing)
{
        struct sembuf take = {.sem_op = -1};

        begin();
        CALL(semop(semaphore, &take, 1));
        return nothing;
}

static void *in_sigtimedwait(void *nothing)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        begin();
        CHECK(CALL(sigtimedwait(&set, NULL, &(struct timespec){.tv_sec = 1000})) == SIGUSR1);
        return nothing;
}

static void *spinning(void *nothing)
{
        while (going)
                spins++;
        return nothing;
}

static void *reading_directly(void *nothing)
{
        int fd = CALL(open(in_folder("direct"), O_RDONLY | O_DIRECT | O_CLOEXEC));
        char *memory = anonymous(FILE_SIZE);

        while (going) {
                memset(memory, 0, FILE_SIZE);
                CHECK(CALL(pread(fd, memory, FILE_SIZE, 0)) == (ssize_t)FILE_SIZE);
                CHECK(filled(memory, FILE_SIZE, 7));
                direct_reads++;
        }
        close(fd);
        return nothing;
}

int main(int argc, char **argv)
{
        void *(*const bodies[])(void *) = {in_pipe,    in_epoll,     in_socket,
                                           in_inotify, in_semaphore, in_sigtimedwait};
        int direct = argc > 1 && !strcmp(argv[1], "direct");
        pthread_t threads[8];
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        ZERO(pthread_sigmask(SIG_BLOCK, &set, NULL));
        if (direct)
                CALL(fsync(made_file("direct", FILE_SIZE, 7)));
        CALL(pipe2(reading, O_CLOEXEC));
        CALL(pipe2(waking, O_CLOEXEC));
        CALL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
        watch = CALL(inotify_init1(IN_CLOEXEC));
        CALL(inotify_add_watch(watch, getenv("VICTIM_FOLDER"), IN_CREATE));
        semaphore = CALL(semget(IPC_PRIVATE, 1, 0600));
        for (int i = 0; i < 6; i++)
                threads[i] = started_thread(bodies[i], NULL);
        threads[6] = started_thread(spinning, NULL);
        threads[7] = started_thread(direct ? reading_directly : spinning, NULL);
        while (nr_tids < 6)
                sched_yield();
        for (int i = 0; i < 6; i++)
                until_blocked(tids[i]);
        ready_and_wait();

        long before = spins, reads = direct_reads;

        while (spins == before || (direct && direct_reads == reads))
                sched_yield();
        tell(reading[1]);
        tell(waking[1]);
        tell(sockets[1]);
        close(CALL(open(in_folder("created"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)));
        CALL(semop(semaphore, &(struct sembuf){.sem_op = 1}, 1));
        ZERO(pthread_kill(threads[5], SIGUSR1));
        going = 0;
        for (int i = 0; i < 8; i++)
                ZERO(pthread_join(threads[i], NULL));
        CALL(semctl(semaphore, 0, IPC_RMID));
        pass();
}
