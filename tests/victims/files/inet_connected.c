// args: 4
// args: 6
// args: mapped
// dump: --tcp-established
// restore: --tcp-established
/* Connections of which both ends are here: with data in all queues, none, half closed, by two
 * processes. */
#include "inet.h"

#define PIECE 4096

static int family, listener, far;
static long nr_stuffed;

static void connected(int pair[2])
{
        pair[0] = CALL(socket(family, SOCK_STREAM, 0));
        if (family == AF_INET6 && far) {
                struct sockaddr_in6 mapped = {.sin6_family = AF_INET6,
                                              .sin6_port = htons(port_of(listener))};
                CALL(inet_pton(AF_INET6, "::ffff:127.0.0.1", &mapped.sin6_addr));
                CALL(connect(pair[0], (struct sockaddr *)&mapped, sizeof(mapped)));
        } else {
                connect_local(pair[0], family, port_of(listener));
        }
        pair[1] = CALL(accept(listener, NULL, NULL));
}

/* As much as goes in; how many pieces of 8 bytes. */
static long stuff(int fd, uint64_t seed)
{
        uint64_t words[PIECE];
        long nr = 0;

        for (;;) {
                for (int i = 0; i < PIECE; i++)
                        words[i] = pattern(seed, nr + i);
                ssize_t sent = send(fd, words, sizeof(words), MSG_DONTWAIT);
                if (sent < 0) {
                        CHECK(errno == EAGAIN);
                        return nr;
                }
                /* A part of a word is the start of the next piece. */
                while (sent % 8) {
                        ssize_t more = send(fd, (char *)words + sent, 8 - sent % 8, 0);
                        CHECK(more > 0);
                        sent += more;
                }
                nr += sent / 8;
        }
}

static void drain(int fd, uint64_t seed, long nr)
{
        uint64_t word;

        for (long i = 0; i < nr; i++) {
                CHECK(recv(fd, &word, 8, MSG_WAITALL) == 8);
                CHECK(word == pattern(seed, i));
        }
}

static void talk(int from, int to, const char *text)
{
        char seen[16] = "";
        size_t size = strlen(text);

        CHECK(send(from, text, size, 0) == (ssize_t)size);
        CHECK(recv(to, seen, size, MSG_WAITALL) == (ssize_t)size && !strcmp(seen, text));
}

static int idle[2], stuffed[2], half[2], ended[2], other[2];

static void reader(void)
{
        wait_for("go");
        drain(stuffed[1], 1, nr_stuffed);
        talk(other[0], other[1], "child");
}

int main(UNUSED int argc, char **argv)
{
        char byte;

        family = argv[1][0] == '4' ? AF_INET : AF_INET6;
        far = argv[1][0] == 'm';
        listener = CALL(socket(family, SOCK_STREAM, 0));
        bind_local(listener, family, 0);
        CALL(listen(listener, 5));
        connected(idle);
        connected(stuffed);
        connected(half);
        connected(ended);
        connected(other);
        set(idle[0], IPPROTO_TCP, TCP_NODELAY, 1);
        set(idle[1], SOL_SOCKET, SO_KEEPALIVE, 1);
        talk(idle[0], idle[1], "before");
        CHECK(send(half[0], "last", 4, 0) == 4);
        CALL(shutdown(half[0], SHUT_WR));
        CALL(shutdown(ended[1], SHUT_WR));
        CHECK(read(ended[0], &byte, 1) == 0);
        while (info_of(half[1]).tcpi_state != TCP_CLOSE_WAIT ||
               info_of(half[0]).tcpi_state != TCP_FIN_WAIT2)
                sched_yield();
        nr_stuffed = stuff(stuffed[0], 1);
        pid_t pid = child(reader);

        ready_and_wait();
        CHECK(get(idle[0], IPPROTO_TCP, TCP_NODELAY) == 1);
        CHECK(get(idle[1], SOL_SOCKET, SO_KEEPALIVE) == 1);
        CHECK(get(idle[0], SOL_SOCKET, SO_REUSEADDR) == 0);
        CHECK(info_of(half[1]).tcpi_state == TCP_CLOSE_WAIT);
        talk(idle[0], idle[1], "to");
        talk(idle[1], idle[0], "fro");
        char last[5] = "";
        CHECK(recv(half[1], last, 4, MSG_WAITALL) == 4 && !strcmp(last, "last"));
        CHECK(read(half[1], &byte, 1) == 0);
        talk(half[1], half[0], "still");
        CHECK(send(half[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
        talk(ended[0], ended[1], "still");
        CHECK(read(ended[0], &byte, 1) == 0);
        join_child(pid);
        close(half[1]);
        CHECK(read(half[0], &byte, 1) == 0);
        close(idle[0]);
        CHECK(read(idle[1], &byte, 1) == 0);
        connected(idle);
        talk(idle[0], idle[1], "anew");
        pass();
}
