// cycles: 2
/* UNIX sockets whose file was renamed after bind(2), as servers do that replace one another; one
 * whose file another was renamed over; getsockname(2) tells the first name of all of them. */
#include "victim.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t name_of(struct sockaddr_un *name, const char *text)
{
        memset(name, 0, sizeof(*name));
        name->sun_family = AF_UNIX;
        strcpy(name->sun_path, text);
        return offsetof(struct sockaddr_un, sun_path) + strlen(text) + 1;
}

static int made(int type, const char *text)
{
        struct sockaddr_un name;
        socklen_t length = name_of(&name, text);
        int fd = CALL(socket(AF_UNIX, type, 0));

        CALL(bind(fd, (struct sockaddr *)&name, length));
        if (type != SOCK_DGRAM)
                CALL(listen(fd, 4));
        return fd;
}

static int connected(int type, const char *text)
{
        struct sockaddr_un name;
        socklen_t length = name_of(&name, text);
        int fd = CALL(socket(AF_UNIX, type, 0));

        CALL(connect(fd, (struct sockaddr *)&name, length));
        return fd;
}

static void is_named(int fd, const char *text)
{
        struct sockaddr_un name, seen;
        socklen_t length = name_of(&name, text), seen_length = sizeof(seen);

        CALL(getsockname(fd, (struct sockaddr *)&seen, &seen_length));
        CHECK(seen_length == length && !memcmp(&seen, &name, length));
}

static void exchange(int one, int other)
{
        tell(one);
        hear(other);
        tell(other);
        hear(one);
}

int main(void)
{
        char first[300], second[300], path[300], log[300];

        strcpy(first, in_folder("path.1.tmp"));
        strcpy(second, in_folder("path.2.tmp"));
        strcpy(path, in_folder("path"));
        strcpy(log, in_folder("log"));
        int old = made(SOCK_STREAM, first);
        CALL(rename(first, path));
        int old_client = connected(SOCK_STREAM, path);
        int old_server = CALL(accept(old, NULL, NULL));
        int server = made(SOCK_STREAM, second);
        CALL(rename(second, path));
        int waiting = connected(SOCK_STREAM, path);
        int relative = made(SOCK_SEQPACKET, "relative.tmp");
        CALL(rename("relative.tmp", "relative"));
        int datagrams = made(SOCK_DGRAM, in_folder("log.tmp"));
        CALL(rename(in_folder("log.tmp"), log));
        int logger = connected(SOCK_DGRAM, log);
        tell(logger);
        ready_and_wait();
        is_named(old, first);
        is_named(old_server, first);
        is_named(server, second);
        is_named(relative, "relative.tmp");
        is_named(datagrams, in_folder("log.tmp"));
        CHECK(access(first, F_OK) == -1 && access(second, F_OK) == -1);
        CHECK(access("relative.tmp", F_OK) == -1 && access("log.tmp", F_OK) == -1);
        exchange(old_client, old_server);
        exchange(waiting, CALL(accept(server, NULL, NULL)));
        int fresh = connected(SOCK_STREAM, path);
        exchange(fresh, CALL(accept(server, NULL, NULL)));
        CHECK(connected(SOCK_SEQPACKET, "relative") > 0);
        hear(datagrams);
        tell(logger);
        hear(datagrams);
        tell(connected(SOCK_DGRAM, log));
        hear(datagrams);
        pass();
}
