/* What the victims with objects of System V IPC have in common. */
#ifndef SYSVID_H
#define SYSVID_H

#include "victim.h"

/* Have the next object get a number that nobody else is given by chance while it is gone. `file`:
 * which of sem_next_id, msg_next_id and shm_next_id, by its path. */
UNUSED static void ask_for_an_id_of_our_own(const char *file)
{
        int fd = open(file, O_WRONLY | O_CLOEXEC);

        if (fd < 0)
                return;
        CHECK(dprintf(fd, "%d", getpid() & 0x7fff) > 0);
        close(fd);
}

#endif
