// refused: "System V semaphores" SEM_UNDO
/* It has taken a semaphore that is given back when it ends. */
#include "victim.h"
#include <sys/ipc.h>
#include <sys/sem.h>

int main(void)
{
        int id = CALL(semget(IPC_PRIVATE, 3, IPC_CREAT | 0600));
        struct sembuf give = {.sem_num = 1, .sem_op = 2};
        struct sembuf take = {.sem_num = 1, .sem_op = -1, .sem_flg = SEM_UNDO};

        CALL(semop(id, &give, 1));
        CALL(semop(id, &take, 1));
        ready_and_wait();
        CHECK(CALL(semctl(id, 1, GETVAL)) == 1);
        CALL(semctl(id, 0, IPC_RMID));
        pass();
}
