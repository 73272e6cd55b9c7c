/* Threads with directories and masks of their own, one below a root of its own, and one that shares
 * those of its process. */
#include "victim.h"
#include <sched.h>

static pthread_barrier_t built, moved;

/* Where the thread stands, by itself, by a relative name and by its mask. */
static void is_in(const char *cwd, const char *name, mode_t mask)
{
        char path[512];
        struct stat made;

        CHECK(getcwd(path, sizeof(path)) != NULL);
        CHECK(strcmp(path, cwd) == 0);
        int fd = CALL(open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0777));
        CALL(fstat(fd, &made));
        CHECK((made.st_mode & 0777) == (0777 & ~mask));
        close(fd);
        CALL(unlink(name));
}

static void *wanderer(void *unused)
{
        const char *own = in_folder("own");

        CALL(unshare(CLONE_FS));
        CALL(mkdir(own, 0755));
        CALL(chdir(own));
        umask(0137);
        pthread_barrier_wait(&built);
        wait_for("go");
        is_in(in_folder("own"), "by-wanderer", 0137);
        CALL(chdir("/"));
        umask(0);
        pthread_barrier_wait(&moved);
        return unused;
}

static void *prisoner(void *unused)
{
        struct stat root, now;

        CALL(unshare(CLONE_FS));
        CALL(chdir(in_folder(".")));
        CALL(stat(".", &root));
        CALL(chroot("."));
        CALL(mkdir("/cell", 0755));
        CALL(chdir("/cell"));
        umask(027);
        pthread_barrier_wait(&built);
        close(CALL(open("/go", O_RDONLY | O_CLOEXEC)));
        CALL(stat("/", &now));
        CHECK(root.st_ino == now.st_ino && root.st_dev == now.st_dev);
        is_in("/cell", "by-prisoner", 027);
        pthread_barrier_wait(&moved);
        return unused;
}

static void *companion(void *unused)
{
        pthread_barrier_wait(&built);
        wait_for("go");
        pthread_barrier_wait(&moved);
        is_in(in_folder("shared"), "by-companion", 077);
        return unused;
}

int main(void)
{
        void *(*bodies[])(void *) = {wanderer, prisoner, companion};
        pthread_t threads[3];

        CALL(mkdir(in_folder("common"), 0755));
        CALL(mkdir(in_folder("shared"), 0755));
        CALL(chdir(in_folder("common")));
        umask(022);
        ZERO(pthread_barrier_init(&built, NULL, 4));
        ZERO(pthread_barrier_init(&moved, NULL, 4));
        for (int i = 0; i < 3; i++)
                ZERO(pthread_create(&threads[i], NULL, bodies[i], NULL));
        pthread_barrier_wait(&built);
        ready_and_wait();
        is_in(in_folder("common"), "by-main", 022);
        CALL(chdir(in_folder("shared")));
        umask(077);
        pthread_barrier_wait(&moved);
        for (int i = 0; i < 3; i++)
                ZERO(pthread_join(threads[i], NULL));
        is_in(in_folder("shared"), "by-main", 077);
        pass();
}
