/*
 * Pipes and a FIFO in packet mode (O_DIRECT), which keep the borders of what was written, and one
 * that went over to it when bytes were in it.
 */
#include "victim.h"

static void put(int fd, const char *text)
{
        CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static void packet(int fd, const char *wanted)
{
        char text[16];

        CHECK(CALL(read(fd, text, sizeof(text))) == (ssize_t)strlen(wanted));
        CHECK(memcmp(text, wanted, strlen(wanted)) == 0);
}

int main(void)
{
        int packets[2], later[2];
        char large[9000], got[9000];

        CALL(pipe2(packets, O_DIRECT));
        put(packets[1], "one");
        put(packets[1], "three");
        CALL(pipe2(later, O_NONBLOCK));
        memset(large, 'l', sizeof(large));
        CHECK(write(later[1], large, sizeof(large)) == sizeof(large));
        CALL(fcntl(later[1], F_SETFL, O_DIRECT));
        put(later[1], "four");
        CALL(mkfifo(in_folder("fifo"), 0600));
        int both = CALL(open(in_folder("fifo"), O_RDWR));
        int writer = CALL(open(in_folder("fifo"), O_WRONLY));
        CALL(fcntl(writer, F_SETFL, O_DIRECT));
        put(writer, "five5");
        put(writer, "6");
        ready_and_wait();
        packet(packets[0], "one");
        packet(packets[0], "three");
        put(packets[1], "2");
        put(packets[1], "22");
        packet(packets[0], "2");
        packet(packets[0], "22");
        CHECK(CALL(read(later[0], got, sizeof(got))) == sizeof(got));
        CHECK(memcmp(large, got, sizeof(got)) == 0);
        packet(later[0], "four");
        packet(both, "five5");
        packet(both, "6");
        put(writer, "7");
        put(both, "8");
        packet(both, "7");
        packet(both, "8");
        pass();
}
