/* A server at a UNIX socket, with one connection accepted and one waiting. What the first has sent
 * can be read, then it has ended; the next that is accepted is one that says so. */
#include "victim.h"
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(void)
{
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        int fd = CALL(socket(AF_UNIX, SOCK_STREAM, 0)), first, next;
        char got[16];

        signal(SIGPIPE, SIG_IGN);
        strcpy(name.sun_path, in_folder("socket"));
        CALL(bind(fd, (struct sockaddr *)&name, sizeof(name)));
        CALL(listen(fd, 5));
        ready();
        first = CALL(accept(fd, NULL, NULL));
        CHECK(poll(&(struct pollfd){.fd = first, .events = POLLIN}, 1, -1) == 1);
        ready();
        wait_for("go");
        CHECK(read(first, got, sizeof(got)) == 5 && !memcmp(got, "hello", 5));
        CHECK(read(first, got, sizeof(got)) == 0);
        CHECK(write(first, "x", 1) < 0 && errno == EPIPE);
        next = CALL(accept(fd, NULL, NULL));
        CHECK(read(next, got, sizeof(got)) == 3 && !memcmp(got, "new", 3));
        pass();
}
