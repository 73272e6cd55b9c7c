// cycles: 2
/* UNIX sockets with names: listening, connected, waiting to be accepted; absolute, relative,
 * abstract and removed names; datagrams with their senders. */
#include "victim.h"
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t name_of(struct sockaddr_un *name, const char *text)
{
        memset(name, 0, sizeof(*name));
        name->sun_family = AF_UNIX;
        if (text[0]) {
                strcpy(name->sun_path, text);
                return offsetof(struct sockaddr_un, sun_path) + strlen(text) + 1;
        }
        int length = snprintf(name->sun_path + 1, 100, "ckpt victim %d %s", getpid(), text + 1);
        return offsetof(struct sockaddr_un, sun_path) + 1 + length;
}

static int made(int type, const char *text)
{
        struct sockaddr_un name;
        socklen_t length = name_of(&name, text);
        int fd = CALL(socket(AF_UNIX, type, 0));

        CALL(bind(fd, (struct sockaddr *)&name, length));
        return fd;
}

static int connected(int type, const char *text, int bound)
{
        struct sockaddr_un name;
        socklen_t length = name_of(&name, text);
        int fd = bound >= 0 ? bound : CALL(socket(AF_UNIX, type, 0));

        CALL(connect(fd, (struct sockaddr *)&name, length));
        return fd;
}

static void is_named(int fd, const char *text, int of_peer)
{
        struct sockaddr_un name, seen;
        socklen_t length = name_of(&name, text), seen_length = sizeof(seen);

        if (of_peer)
                CALL(getpeername(fd, (struct sockaddr *)&seen, &seen_length));
        else
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

static void hear_from(int fd, const char *text)
{
        struct sockaddr_un name, seen;
        socklen_t length = name_of(&name, text), seen_length = sizeof(seen);
        char byte;

        CHECK(CALL(recvfrom(fd, &byte, 1, 0, (struct sockaddr *)&seen, &seen_length)) == 1);
        CHECK(seen_length == length && !memcmp(&seen, &name, length));
}

int main(void)
{
        struct stat before, after;
        char path[300], gone[300];

        strcpy(path, in_folder("listener"));
        strcpy(gone, in_folder("gone"));
        /* A listener with one accepted and two waiting. */
        int listener = made(SOCK_STREAM, path);
        CALL(chmod(path, 0640));
        CALL(listen(listener, 3));
        int client = connected(SOCK_STREAM, path, -1);
        int server = CALL(accept(listener, NULL, NULL));
        int named = connected(SOCK_STREAM, path, made(SOCK_STREAM, in_folder("client")));
        int waiting = connected(SOCK_STREAM, path, -1);
        CHECK(write(client, "data", 4) == 4);
        /* A relative name, and an abstract one whose listener is closed. */
        int relative = made(SOCK_SEQPACKET, "relative");
        CALL(listen(relative, 0));
        int abstract = made(SOCK_STREAM, "\0listener");
        CALL(listen(abstract, 1));
        int far = connected(SOCK_STREAM, "\0listener", -1);
        int near = CALL(accept(abstract, NULL, NULL));
        close(abstract);
        /* A removed name, and an accepted one whose client is closed. */
        int removed = made(SOCK_STREAM, gone);
        CALL(listen(removed, 1));
        int before_removal = connected(SOCK_STREAM, gone, -1);
        int after_removal = CALL(accept(removed, NULL, NULL));
        CALL(unlink(gone));
        int closing = connected(SOCK_STREAM, path, -1);
        CHECK(write(closing, "bye", 3) == 3);
        /* Datagrams. */
        int log = made(SOCK_DGRAM, in_folder("log"));
        int logger = connected(SOCK_DGRAM, in_folder("log"), made(SOCK_DGRAM, "\0logger"));
        int anonymous = connected(SOCK_DGRAM, in_folder("log"), -1);
        tell(logger);
        tell(anonymous);
        tell(logger);
        int own_first = CALL(accept(listener, NULL, NULL));
        int unaccepted = CALL(accept(listener, NULL, NULL));
        int widow = CALL(accept(listener, NULL, NULL));
        close(closing);
        int late = connected(SOCK_STREAM, path, -1), later = connected(SOCK_STREAM, path, -1);
        CALL(stat(path, &before));
        ready_and_wait();
        CALL(stat(path, &after));
        CHECK(before.st_mode == after.st_mode && before.st_uid == after.st_uid);
        is_named(listener, path, 0);
        is_named(client, path, 1);
        is_named(server, path, 0);
        is_named(named, in_folder("client"), 0);
        is_named(own_first, in_folder("client"), 1);
        char data[4];
        CHECK(CALL(read(server, data, 4)) == 4 && !memcmp(data, "data", 4));
        exchange(client, server);
        exchange(named, own_first);
        exchange(waiting, unaccepted);
        CHECK(CALL(read(widow, data, 4)) == 3 && CALL(read(widow, data, 4)) == 0);
        exchange(late, CALL(accept(listener, NULL, NULL)));
        exchange(later, CALL(accept(listener, NULL, NULL)));
        int fresh = connected(SOCK_STREAM, path, -1);
        exchange(fresh, CALL(accept(listener, NULL, NULL)));
        is_named(relative, "relative", 0);
        CHECK(connected(SOCK_SEQPACKET, "relative", -1) > 0);
        is_named(near, "\0listener", 0);
        is_named(far, "\0listener", 1);
        exchange(far, near);
        is_named(removed, gone, 0);
        is_named(before_removal, gone, 1);
        CHECK(access(gone, F_OK) == -1 && errno == ENOENT);
        exchange(before_removal, after_removal);
        hear_from(log, "\0logger");
        hear(log);
        hear_from(log, "\0logger");
        tell(anonymous);
        hear(log);
        is_named(logger, in_folder("log"), 1);
        pass();
}
