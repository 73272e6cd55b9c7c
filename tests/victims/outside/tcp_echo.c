/* Serves one connection whose other end is outside: echoes, until that end closes its half; or says
 * that it was gone already. */
#include "inet.h"

int main(void)
{
        int listener = CALL(socket(AF_INET, SOCK_STREAM, 0)), fd, out;
        char text[1 << 16];
        ssize_t size;

        set(listener, SOL_SOCKET, SO_REUSEADDR, 1);
        bind_local(listener, AF_INET, 0);
        CALL(listen(listener, 1));
        out = CALL(open(in_folder("port.new"), O_WRONLY | O_CREAT, 0644));
        CHECK(dprintf(out, "%d", port_of(listener)) > 0);
        close(out);
        CALL(rename("port.new", "port"));
        fd = CALL(accept(listener, NULL, NULL));
        ready_and_wait();
        while ((size = CALL(read(fd, text, sizeof(text)))) > 0)
                CHECK(send(fd, text, size, MSG_NOSIGNAL) == size);
        CHECK(send(fd, "end", 3, MSG_NOSIGNAL) == 3 || errno == EPIPE);
        pass();
}
