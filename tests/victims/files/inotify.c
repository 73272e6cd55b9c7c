/*
 * Watches with their numbers: on a folder, a file, a symbolic link; flags of watches; gaps between
 * numbers; an instance without any.
 */
#include "victim.h"
#include <limits.h>
#include <sys/inotify.h>

static int add(int fd, const char *name, uint32_t mask)
{
        return CALL(inotify_add_watch(fd, in_folder(name), mask));
}

/* The next event must be this. */
static void event(int fd, int wd, uint32_t mask, const char *name)
{
        static _Alignas(struct inotify_event) char text[4096];
        static ssize_t length, at;

        if (at == length) {
                length = CALL(read(fd, text, sizeof(text)));
                at = 0;
        }
        const struct inotify_event *got = (const struct inotify_event *)(text + at);
        at += (ssize_t)(sizeof(*got) + got->len);
        if (got->wd != wd || got->mask != mask || strcmp(got->len ? got->name : "", name) != 0) {
                say("watch %d mask %x name %s\n", got->wd, got->mask, got->len ? got->name : "");
                fail(__FILE__, __LINE__, "another event");
        }
}

static void quiet(int fd)
{
        char text[4096];

        CHECK(read(fd, text, sizeof(text)) == -1 && errno == EAGAIN);
}

static void touch(const char *name)
{
        close(CALL(open(in_folder(name), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)));
}

int main(void)
{
        int fd = CALL(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)), empty = CALL(inotify_init1(0));

        CALL(mkdir(in_folder("watched"), 0755));
        touch("watched/file");
        touch("other");
        CALL(symlink("other", in_folder("link")));
        int folder = add(fd, "watched", IN_CREATE | IN_DELETE | IN_EXCL_UNLINK);
        int gone = add(fd, "other", IN_MODIFY);
        int file = add(fd, "watched/file", IN_MODIFY | IN_CLOSE_WRITE | IN_OPEN);
        CALL(inotify_rm_watch(fd, gone));
        event(fd, gone, IN_IGNORED, "");
        int once = add(fd, "other", IN_CLOSE_WRITE | IN_ONESHOT);
        int link = add(fd, "link", IN_DELETE_SELF | IN_DONT_FOLLOW);
        /* Open while the dump comes, and not seen to be closed by it. */
        int held = CALL(open(in_folder("watched/file"), O_RDONLY));
        event(fd, file, IN_OPEN, "");
        CHECK(folder == 1 && gone == 2 && file == 3 && once == 4 && link == 5);

        ready_and_wait();
        CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC && !(fcntl(empty, F_GETFL) & O_NONBLOCK));
        quiet(fd);
        touch("watched/new");
        event(fd, folder, IN_CREATE, "new");
        CALL(unlink(in_folder("watched/new")));
        event(fd, folder, IN_DELETE, "new");
        touch("other");
        event(fd, once, IN_CLOSE_WRITE, "");
        event(fd, once, IN_IGNORED, "");
        touch("other");
        touch("watched/file");
        event(fd, file, IN_OPEN, "");
        event(fd, file, IN_CLOSE_WRITE, "");
        CALL(unlink(in_folder("link")));
        event(fd, link, IN_DELETE_SELF, "");
        event(fd, link, IN_IGNORED, "");
        quiet(fd);
        CHECK(add(fd, "watched", IN_CREATE) == folder);
        CHECK(add(fd, "other", IN_CREATE) > link);
        CHECK(add(empty, "other", IN_CREATE) == 1);
        close(held);
        pass();
}
