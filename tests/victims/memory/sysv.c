// args: key
// args: parts
/* System V shared memory between a parent and its child: removed while in use, under a key, and
 * with only parts of it mapped, read-only and read-write, some of it never touched. */
#include "sysvid.h"
#include <sys/ipc.h>
#include <sys/shm.h>

enum { PAGES = 64 };
static int id, by_key, parts;
static char *memory, *window;
static const char *readable;
static int go[2], done[2];

static void check(void)
{
        struct shmid_ds ds;

        CALL(shmctl(id, IPC_STAT, &ds));
        CHECK(ds.shm_segsz == PAGES * PAGE - 100 && (ds.shm_perm.mode & 0777) == 0640);
        CHECK(ds.shm_perm.uid == 1234 && ds.shm_perm.gid == 4321);
        CHECK(by_key == (ds.shm_perm.mode & SHM_DEST ? 0 : 1));
        CHECK(!by_key || CALL(shmget(ds.shm_perm.__key, 0, 0)) == id);
        CHECK(ds.shm_nattch == (parts ? 2 * 4 : 2 * 2));
        CHECK(filled(memory, PAGE, 1) && all_zero(memory + 3 * PAGE, 4 * PAGE));
        CHECK(readable[5 * PAGE - 1] == 0 && filled(readable, PAGE, 1));
        if (parts)
                CHECK(filled(window, PAGE, 2));
}

static void other(void)
{
        hear(go[0]);
        check();
        memory[40] = 'x'; /* seen by the parent */
        tell(done[1]);
        wait_for("go");
}

static void map_parts(void)
{
        char *whole = CALL((char *)shmat(id, NULL, 0));

        fill(whole + 20 * PAGE, PAGE, 2);
        CALL(munmap(whole, 20 * PAGE));
        CALL(munmap(whole + 30 * PAGE, (PAGES - 30) * PAGE));
        CALL(mprotect(whole + 22 * PAGE, 8 * PAGE, PROT_READ));
        window = whole + 20 * PAGE;
}

int main(UNUSED int argc, char **argv)
{
        struct shmid_ds ds = {.shm_perm = {.uid = 1234, .gid = 4321, .mode = 0640}};
        key_t key = 0;
        pid_t pid;

        by_key = !strcmp(argv[1], "key");
        parts = !strcmp(argv[1], "parts");
        if (by_key)
                key = 0x10000000 | getpid();
        ask_for_an_id_of_our_own("/proc/sys/kernel/shm_next_id");
        id = CALL(shmget(key, PAGES * PAGE - 100, IPC_CREAT | IPC_EXCL | 0600));
        memory = CALL((char *)shmat(id, NULL, 0));
        readable = CALL((char *)shmat(id, NULL, SHM_RDONLY));
        CALL(shmctl(id, IPC_SET, &ds));
        if (!by_key)
                CALL(shmctl(id, IPC_RMID, NULL));
        fill(memory, PAGE, 1);
        if (parts)
                map_parts();
        CALL(pipe(go));
        CALL(pipe(done));
        pid = child(other);
        ready_and_wait();
        check();
        tell(go[1]);
        hear(done[0]);
        CHECK(memory[40] == 'x' && readable[40] == 'x');
        join_child(pid);
        if (by_key)
                CALL(shmctl(id, IPC_RMID, NULL));
        CALL(shmdt(memory));
        CALL(shmdt(readable));
        CHECK(mprotect((void *)readable, PAGE, PROT_READ) == -1);
        CHECK(parts || (shmctl(id, IPC_STAT, &ds) == -1 && errno == EINVAL));
        pass();
}
