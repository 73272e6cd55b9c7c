/* A root directory of its own. */
#include "victim.h"

int main(void)
{
        struct stat root, now;

        CALL(stat(in_folder("."), &root));
        CALL(chdir(in_folder(".")));
        CALL(chroot("."));
        CALL(chdir("/"));
        setenv("VICTIM_FOLDER", "/", 1);
        ready_and_wait();
        CALL(stat("/", &now));
        CHECK(root.st_ino == now.st_ino && root.st_dev == now.st_dev);
        CALL(stat("/..", &now));
        CHECK(root.st_ino == now.st_ino);
        pass();
}
