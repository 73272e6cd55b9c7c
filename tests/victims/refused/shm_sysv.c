// refused: System V
/* An attached System V shared memory segment. */
#include "victim.h"
#include <sys/ipc.h>
#include <sys/shm.h>

int main(void)
{
        int id = CALL(shmget(IPC_PRIVATE, 4 * PAGE, IPC_CREAT | 0600));
        char *memory = CALL(shmat(id, NULL, 0));

        CALL(shmctl(id, IPC_RMID, NULL)); /* goes with its last user */
        memory[0] = 1;
        ready_and_wait();
        CHECK(memory[0] == 1);
        pass();
}
