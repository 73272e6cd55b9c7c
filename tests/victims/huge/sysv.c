// args: whole
// args: part
/* System V shared memory of huge pages, of a parent and its child, of which one has but a part. */
#include "huge.h"
#include "sysvid.h"
#include <sys/ipc.h>
#include <sys/shm.h>

#ifndef SHM_HUGE_2MB
#define SHM_HUGE_2MB (21 << 26)
#endif
enum { PAGES = 3 };
static int id;
static char *memory;
static int go[2], done[2];

static void other(void)
{
        hear(go[0]);
        CHECK(filled(memory + HUGE, PAGE, 2));
        memory[HUGE + PAGE] = 'x';
        tell(done[1]);
        wait_for("go");
}

int main(UNUSED int argc, char **argv)
{
        pid_t pid;

        ask_for_an_id_of_our_own("/proc/sys/kernel/shm_next_id");
        id = CALL(
            shmget(IPC_PRIVATE, PAGES * HUGE - 100, IPC_CREAT | SHM_HUGETLB | SHM_HUGE_2MB | 0600));
        memory = CALL((char *)shmat(id, NULL, 0));
        CALL(shmctl(id, IPC_RMID, NULL));
        fill(memory, HUGE, 1);
        fill(memory + HUGE, PAGE, 2);
        CALL(pipe(go));
        CALL(pipe(done));
        pid = child(other);
        if (!strcmp(argv[1], "part"))
                CALL(munmap(memory, HUGE));
        ready_and_wait();
        CHECK(strcmp(argv[1], "whole") || filled(memory, HUGE, 1));
        CHECK(filled(memory + HUGE, PAGE, 2) && all_zero(memory + 2 * HUGE, HUGE));
        tell(go[1]);
        hear(done[0]);
        CHECK(memory[HUGE + PAGE] == 'x');
        join_child(pid);
        pass();
}
