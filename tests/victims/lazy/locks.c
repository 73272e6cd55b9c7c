// args: some arguments
/* The kernel looks at memory of a process at times, and waits for no page that is missing then: at
 * the locks of who ends, at one that a thread waits for by priority inheritance, at the arguments.
 * Here nothing else leads to those pages. */
#include "victim.h"

#include <alloca.h>

#define ROOM (1UL << 20) /* smaller mappings come soon by themselves */

enum kind { OF_THREAD, OF_CHILD, INHERITS };

static pthread_mutex_t *locks[3];
static pid_t waiter;

/* In the middle of a mapping of its own. */
static pthread_mutex_t *lock_of(enum kind kind)
{
        int flags = (kind == OF_CHILD ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS;
        char *room = mmap(NULL, 2 * ROOM, PROT_READ | PROT_WRITE, flags, -1, 0);
        pthread_mutexattr_t how;
        pthread_mutex_t *made;

        CHECK(room != MAP_FAILED);
        fill(room, 2 * ROOM, kind);
        made = memset(room + ROOM, 0, sizeof(*made));
        ZERO(pthread_mutexattr_init(&how));
        ZERO(pthread_mutexattr_setpshared(&how, kind == OF_CHILD));
        if (kind == INHERITS)
                ZERO(pthread_mutexattr_setprotocol(&how, PTHREAD_PRIO_INHERIT));
        else
                ZERO(pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST));
        ZERO(pthread_mutex_init(made, &how));
        return made;
}

static void *lock_and_leave(void *unused)
{
        ZERO(pthread_mutex_lock(locks[OF_THREAD]));
        wait_for("go");
        return unused;
}

static void *lock_in_turn(void *unused)
{
        __atomic_store_n(&waiter, tid_of_caller(), __ATOMIC_SEQ_CST);
        ZERO(pthread_mutex_lock(locks[INHERITS]));
        ZERO(pthread_mutex_unlock(locks[INHERITS]));
        return unused;
}

static void lock_and_stay(void)
{
        CALL(prctl(PR_SET_PDEATHSIG, SIGKILL));
        ZERO(pthread_mutex_lock(locks[OF_CHILD]));
        wait_for("go");
        pause();
}

static int has_argument(const char *wanted)
{
        char text[256];
        int fd = CALL(open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC));
        ssize_t length = CALL(read(fd, text, sizeof(text)));

        close(fd);
        return memmem(text, (size_t)length, wanted, strlen(wanted)) != NULL;
}

static void until_locked(enum kind kind)
{
        while (!__atomic_load_n((int *)locks[kind], __ATOMIC_SEQ_CST))
                sched_yield();
}

static void end_child(pid_t pid)
{
        int status;

        CALL(kill(pid, SIGKILL));
        CHECK(CALL(waitpid(pid, &status, 0)) == pid && WIFSIGNALED(status));
}

int main(void)
{
        char *deep = alloca(ROOM); /* so that the arguments are far from here */
        pthread_t leaving, waiting;
        pid_t pid;

        fill(deep, ROOM, 4);
        for (enum kind kind = OF_THREAD; kind <= INHERITS; kind++)
                locks[kind] = lock_of(kind);
        pid = child(lock_and_stay);
        ZERO(pthread_mutex_lock(locks[INHERITS]));
        leaving = started_thread(lock_and_leave, NULL);
        waiting = started_thread(lock_in_turn, NULL);
        while (!__atomic_load_n(&waiter, __ATOMIC_SEQ_CST))
                sched_yield();
        until_blocked(waiter);
        until_locked(OF_CHILD);
        until_locked(OF_THREAD);
        ready_and_wait();
        CHECK(has_argument("arguments"));
        end_child(pid);
        CHECK(pthread_mutex_trylock(locks[OF_CHILD]) == EOWNERDEAD);
        ZERO(pthread_join(leaving, NULL));
        CHECK(pthread_mutex_trylock(locks[OF_THREAD]) == EOWNERDEAD);
        ZERO(pthread_mutex_unlock(locks[INHERITS]));
        ZERO(pthread_join(waiting, NULL));
        CHECK(filled(deep, ROOM, 4));
        pass();
}
