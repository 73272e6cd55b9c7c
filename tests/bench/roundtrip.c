/* As many round trips as the argument says, over TCP on the loopback device, of what a lazy restore
 * asks with and is answered for one page, between two processes. How long each took goes to
 * standard output, in nanoseconds as uint64_t. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { QUESTION = 24, ANSWER = 24 + 4096 };

static uint64_t now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void check(int holds)
{
        if (!holds)
                _exit(1);
}

static void without_delay(int fd)
{
        int on = 1;

        check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
}

static void answer(int listening)
{
        int fd = accept(listening, NULL, NULL);
        char question[QUESTION], page[ANSWER] = {0};

        without_delay(fd);
        while (recv(fd, question, sizeof(question), MSG_WAITALL) == QUESTION)
                check(send(fd, page, sizeof(page), 0) == ANSWER);
        _exit(0);
}

static int connected(void)
{
        struct sockaddr_in addr = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof(addr);
        int listening = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);

        check(bind(listening, (struct sockaddr *)&addr, length) == 0 && listen(listening, 1) == 0);
        check(getsockname(listening, (struct sockaddr *)&addr, &length) == 0);
        if (fork() == 0) {
                close(fd);
                answer(listening);
        }
        check(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
        without_delay(fd);
        return fd;
}

int main(int argc, char **argv)
{
        size_t nr = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000;
        uint64_t *took = calloc(nr, sizeof(*took));
        char question[QUESTION] = {0}, page[ANSWER];
        int fd = connected();

        check(took != NULL);
        for (size_t i = 0; i < nr; i++) {
                uint64_t before = now_ns();

                check(send(fd, question, sizeof(question), 0) == QUESTION);
                check(recv(fd, page, sizeof(page), MSG_WAITALL) == ANSWER);
                took[i] = now_ns() - before;
        }
        close(fd);
        wait(NULL);
        check(write(1, took, nr * sizeof(*took)) == (ssize_t)(nr * sizeof(*took)));
        return 0;
}
