// args: plain
// args: undo threads
/* A set of System V semaphores under a key, between a root and its child: values, last users, a
 * child that waits at one. With undo, another child has values to give back when it ends. */
#include "sysvid.h"
#include <sys/ipc.h>
#include <sys/sem.h>

enum { NR = 8, NEVER = 4, WAITED = 5, MANY = 32767 };
static int id, interrupted;
static int end[2], began[2];

static void operate(int num, int op, int flags)
{
        struct sembuf ops[] = {{.sem_num = num, .sem_op = op, .sem_flg = flags}};

        CALL(semop(id, ops, 1));
}

static int value(int num)
{
        return CALL(semctl(id, num, GETVAL));
}

static int last(int num)
{
        return CALL(semctl(id, num, GETPID));
}

static void *wait_in_thread(UNUSED void *argument)
{
        pause();
        return NULL;
}

/* Waits, and is not to be woken by anything but the root; or, interrupted, by a tracer that goes
 * before it has done anything: the kernel ends the call then. */
static void waiter(void)
{
        struct sembuf take = {.sem_num = WAITED, .sem_op = -2};

        tell(began[1]);
        while (semop(id, &take, 1) < 0)
                CHECK(errno == EINTR && interrupted);
        CHECK(value(WAITED) == 1);
}

static void with_undo(void)
{
        operate(0, 7, 0);
        operate(0, -3, SEM_UNDO);
        operate(1, 5, SEM_UNDO);
        operate(2, MANY, 0);
        operate(2, -MANY, SEM_UNDO);
        operate(3, MANY, SEM_UNDO);
        operate(3, -MANY, 0);
        operate(3, 1, SEM_UNDO);
        operate(NEVER + 2, 1, SEM_UNDO);
        operate(NEVER + 2, -1, SEM_UNDO);
        tell(began[1]);
        hear(end[0]);
}

static void with_undo_and_threads(void)
{
        started_thread(wait_in_thread, NULL);
        with_undo();
}

static void check_alive(pid_t worker)
{
        struct semid_ds ds;

        CALL(semctl(id, 0, IPC_STAT, &ds));
        CHECK(ds.sem_nsems == NR && (ds.sem_perm.mode & 0777) == 0640);
        CHECK(ds.sem_perm.uid == 1234 && ds.sem_perm.gid == 4321);
        CHECK(CALL(semget(ds.sem_perm.__key, 0, 0)) == id);
        CHECK(last(NEVER) == 0 && value(NEVER) == 0);
        CHECK(last(NEVER + 3) == getpid() && value(NEVER + 3) == 9);
        if (!worker)
                return;
        CHECK(value(0) == 4 && value(1) == 5 && value(2) == 0 && value(3) == 1);
        for (int num = 0; num <= 3; num++)
                CHECK(last(num) == worker);
}

static void check_given_back(void)
{
        CHECK(value(0) == 7 && value(1) == 0 && value(2) == MANY && value(3) == 0);
}

int main(int argc, char **argv)
{
        struct semid_ds ds = {.sem_perm = {.uid = 1234, .gid = 4321, .mode = 0640}};
        pid_t worker = 0, waits;

        /* A victim that was killed has left its own; the key is nobody else's. */
        id = semget(0x5e000000 | getpid(), 0, 0);
        if (id >= 0)
                CALL(semctl(id, 0, IPC_RMID));
        ask_for_an_id_of_our_own("/proc/sys/kernel/sem_next_id");
        id = CALL(semget(0x5e000000 | getpid(), NR, IPC_CREAT | IPC_EXCL | 0600));
        CALL(semctl(id, 0, IPC_SET, &ds));
        CALL(pipe(end));
        CALL(pipe(began));
        interrupted = argc > 2 && !strcmp(argv[2], "interrupted");
        if (!strcmp(argv[1], "undo"))
                worker = child(argc > 2 && !strcmp(argv[2], "threads") ? with_undo_and_threads
                                                                       : with_undo);
        if (worker)
                hear(began[0]);
        operate(NEVER + 3, 9, 0);
        waits = child(waiter);
        hear(began[0]);
        until_blocked(waits);
        CHECK(CALL(semctl(id, WAITED, GETNCNT)) == 1);
        ready_and_wait();
        check_alive(worker);
        operate(WAITED, 3, 0);
        join_child(waits);
        if (worker) {
                tell(end[1]);
                join_child(worker);
                check_given_back();
        }
        CALL(semctl(id, 0, IPC_RMID));
        pass();
}
