/* A file that has no name, and what must be true of it whenever it is looked at. */
#ifndef NAMELESS_H
#define NAMELESS_H

#include "victim.h"

static struct stat before;
static int fd = -1;

UNUSED static void remember(void)
{
        CALL(fstat(fd, &before));
        CHECK(before.st_nlink == 0);
}

/* Owner, mode, size and time of change are what they were; there is no name still. */
UNUSED static void check_as_before(void)
{
        struct stat now;

        CALL(fstat(fd, &now));
        CHECK(now.st_nlink == 0);
        CHECK(now.st_mode == before.st_mode && now.st_size == before.st_size);
        CHECK(now.st_uid == before.st_uid && now.st_gid == before.st_gid);
        CHECK(access(in_folder("gone"), F_OK) < 0 && errno == ENOENT);
        if (S_ISFIFO(now.st_mode))
                return; /* data was put into it again, which shows */
        CHECK(now.st_mtim.tv_sec == before.st_mtim.tv_sec);
        CHECK(now.st_mtim.tv_nsec / 1000 == before.st_mtim.tv_nsec / 1000);
}

#endif
