// refused: unix connections outside (1) --unix-close
/* A listening UNIX socket, where a connection of a process waits that has left the tree. */
#include "victim.h"
#include <sys/socket.h>
#include <sys/un.h>

int main(void)
{
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        int fd = CALL(socket(AF_UNIX, SOCK_STREAM, 0)), out[2];
        pid_t pid;

        CALL(pipe(out));
        strcpy(name.sun_path, in_folder("socket"));
        CALL(bind(fd, (struct sockaddr *)&name, sizeof(name)));
        CALL(listen(fd, 5));
        CHECK((pid = CALL(fork())) >= 0);
        if (pid == 0) {
                if (CALL(fork()) == 0) { /* adopted by an ancestor of the tree */
                        close(fd);
                        fd = CALL(socket(AF_UNIX, SOCK_STREAM, 0));
                        CALL(connect(fd, (struct sockaddr *)&name, sizeof(name)));
                        tell(out[1]);
                        close(out[0]);
                        close(out[1]);
                        wait_for("go");
                        hear(fd);
                }
                _exit(0);
        }
        join_child(pid);
        hear(out[0]);
        close(out[0]);
        close(out[1]);
        ready_and_wait();
        tell(CALL(accept(fd, NULL, NULL)));
        pass();
}
