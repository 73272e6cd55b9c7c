// needs: cap_sys_admin
/*
 * Groups of fanotify: by descriptors and by file handles; marks on inodes, their ignore masks, a
 * mount, a file system.
 */
#include "victim.h"
#include <sys/fanotify.h>

#ifndef FAN_MARK_EVICTABLE
#define FAN_MARK_EVICTABLE 0x200
#endif

static void mark(int fd, unsigned int flags, uint64_t mask, const char *path)
{
        CALL(fanotify_mark(fd, FAN_MARK_ADD | flags, mask, AT_FDCWD, path));
}

/* The lines of fdinfo that tell of marks, without the order in which the kernel has them. */
static void marks(int fd, char *text, size_t size)
{
        char path[64], line[512];
        size_t used = 0;

        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
        FILE *file = fopen(path, "re");
        CHECK(file != NULL);
        while (fgets(line, sizeof(line), file))
                if (strncmp(line, "fanotify", 8) == 0)
                        used += (size_t)snprintf(text + used, size - used, "%s", line);
        fclose(file);
}

static int same_lines(const char *one, const char *other)
{
        char copy[4096], *save = NULL;

        if (strlen(one) != strlen(other))
                return 0;
        snprintf(copy, sizeof(copy), "%s", one);
        for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
                if (!strstr(other, line))
                        return 0;
        return 1;
}

static uint64_t event(int fd)
{
        static _Alignas(struct fanotify_event_metadata) char text[4096];
        struct fanotify_event_metadata *got = (struct fanotify_event_metadata *)text;
        ssize_t length = read(fd, text, sizeof(text));

        if (length < 0) {
                CHECK(errno == EAGAIN);
                return 0;
        }
        CHECK(got->event_len == (uint32_t)length && got->pid == getpid());
        if (got->fd >= 0) {
                CHECK(fcntl(got->fd, F_GETFL) & O_NOATIME);
                close(got->fd);
        }
        return got->mask;
}

int main(void)
{
        char before[2][4096], after[2][4096];
        int fds = CALL(fanotify_init(FAN_NONBLOCK | FAN_UNLIMITED_MARKS, O_RDWR | O_NOATIME));
        int ids = CALL(fanotify_init(FAN_NONBLOCK | FAN_CLOEXEC | FAN_REPORT_DFID_NAME, 0));
        int wide = CALL(fanotify_init(FAN_NONBLOCK, O_RDONLY));

        CALL(mkdir(in_folder("watched"), 0755));
        close(made_file("watched/file", 100, 1));
        close(made_file("watched/ignored", 100, 1));
        mark(fds, 0, FAN_MODIFY | FAN_EVENT_ON_CHILD | FAN_ONDIR, in_folder("watched"));
        mark(fds, FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_MODIFY,
             in_folder("watched/ignored"));
        mark(ids, 0, FAN_CREATE | FAN_DELETE_SELF | FAN_ONDIR, in_folder("watched"));
        mark(ids, FAN_MARK_EVICTABLE, FAN_ATTRIB, in_folder("watched/file"));
        /* Of what nothing happens to: a mount and a file system. */
        mark(wide, FAN_MARK_MOUNT, FAN_MODIFY, "/proc");
        mark(wide, FAN_MARK_FILESYSTEM, FAN_MODIFY, "/proc");
        marks(fds, before[0], sizeof(before[0]));
        marks(ids, before[1], sizeof(before[1]));
        char whole[2][4096];
        marks(wide, whole[0], sizeof(whole[0]));

        ready_and_wait();
        marks(fds, after[0], sizeof(after[0]));
        marks(ids, after[1], sizeof(after[1]));
        marks(wide, whole[1], sizeof(whole[1]));
        for (int i = 0; i < 2; i++)
                if (!same_lines(before[i], after[i])) {
                        say("%s---\n%s", before[i], after[i]);
                        fail(__FILE__, __LINE__, "the marks differ");
                }
        CHECK(same_lines(whole[0], whole[1]));
        CHECK(fcntl(ids, F_GETFD) == FD_CLOEXEC && fcntl(fds, F_GETFD) == 0);
        CHECK(event(fds) == 0 && event(ids) == 0);
        int file = CALL(open(in_folder("watched/file"), O_WRONLY));
        int ignored = CALL(open(in_folder("watched/ignored"), O_WRONLY));
        tell(file);
        CHECK(event(fds) == FAN_MODIFY);
        tell(ignored);
        CHECK(event(fds) == 0 && event(ids) == 0);
        CALL(fchmod(file, 0600));
        CHECK(event(ids) == FAN_ATTRIB);
        CALL(mkdir(in_folder("watched/new"), 0755));
        CHECK(event(ids) == (FAN_CREATE | FAN_ONDIR));
        pass();
}
