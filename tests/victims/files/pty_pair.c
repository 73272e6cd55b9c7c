// args: raw
// args: lines
// args: packets
// args: locked
// args: left
// args: stopped
/* Both ends of a pseudo terminal, with settings, size, and bytes on their way in both directions.
 */
#include "pty.h"
#include <poll.h>

static int master, slave;

static void change(void (*how)(struct termios *))
{
        struct termios now;

        CALL(tcgetattr(slave, &now));
        how(&now);
        CALL(tcsetattr(slave, TCSANOW, &now));
}

static void quiet(struct termios *now)
{
        now->c_lflag &= ~ECHO;
        now->c_cc[VERASE] = '#';
}

static void is_read(int fd, const char *wanted)
{
        char text[256];
        ssize_t length = CALL(read(fd, text, sizeof(text)));

        if (length != (ssize_t)strlen(wanted) || memcmp(text, wanted, length) != 0) {
                say("read %zd bytes: '%.*s'\n", length, (int)length, text);
                CHECK(!"what was on its way");
        }
}

/* From a master, where bytes come as the kernel moves them on. */
static void comes(const char *wanted)
{
        char text[256];
        size_t length = 0;

        while (length < strlen(wanted))
                length += CALL(read(master, text + length, sizeof(text) - length));
        CHECK(length == strlen(wanted) && memcmp(text, wanted, length) == 0);
}

static int has(int fd, int events)
{
        struct pollfd asked = {.fd = fd, .events = events};

        CALL(poll(&asked, 1, 0));
        return asked.revents & events;
}

static void put(int fd, const char *text)
{
        CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static void raw(void)
{
        static unsigned char text[1000], got[1000];

        change(cfmakeraw);
        for (int i = 0; i < 1000; i++)
                text[i] = i * 7;
        CHECK(write(master, text, 1000) == 1000);
        put(slave, "out\nput");
        ready_and_wait();
        comes("out\nput");
        CHECK(read(slave, got, sizeof(got)) == 1000 && !memcmp(text, got, 1000));
}

static void lines(void)
{
        struct winsize size = {.ws_row = 33, .ws_col = 44}, now;
        struct termios before, after;

        change(quiet);
        CALL(ioctl(slave, TIOCSWINSZ, &size));
        CALL(fcntl(slave, F_SETFL, O_NONBLOCK));
        CALL(fchown(slave, 65534, 5));
        CALL(fchmod(slave, 0604));
        put(master, "one\ntwo\004th\026\003ree\n\004typ");
        put(slave, "line\n");
        CALL(tcgetattr(slave, &before));
        ready_and_wait();
        CALL(tcgetattr(slave, &after));
        CHECK(memcmp(&before, &after, sizeof(after)) == 0);
        CALL(ioctl(master, TIOCGWINSZ, &now));
        CHECK(now.ws_row == 33 && now.ws_col == 44);
        struct stat node;
        CALL(fstat(slave, &node));
        CHECK(node.st_uid == 65534 && node.st_gid == 5 && (node.st_mode & 07777) == 0604);
        comes("line\r\n");
        put(master, "###x\n");
        is_read(slave, "one\n");
        is_read(slave, "two");
        is_read(slave, "th\003ree\n");
        is_read(slave, "");
        is_read(slave, "x\n");
        CHECK(!has(slave, POLLIN));
}

static void packets(void)
{
        int on = 1;

        change(cfmakeraw);
        CALL(ioctl(master, TIOCPKT, &on));
        CALL(ioctl(slave, TIOCEXCL));
        put(slave, "abc");
        ready_and_wait();
        char got[8];
        CHECK(read(master, got, sizeof(got)) == 4 && !memcmp(got, "\0abc", 4));
        CALL(tcflush(slave, TCIFLUSH));
        CHECK(has(master, POLLPRI));
        CHECK(read(master, got, sizeof(got)) == 1 && got[0] == TIOCPKT_FLUSHREAD);
        on = 0;
        CALL(ioctl(slave, TIOCGEXCL, &on));
        CHECK(on == 1);
}

/* TCGETS2 and TCSETS2, for which glibc has no struct: speeds are the last two of these words, and
 * BOTHER, in the third, is one that has no name. */
static void speeds(unsigned int *words, unsigned long request)
{
        CALL(ioctl(slave, request, words));
}

static void locked(void)
{
        unsigned int words[11];
        int is = 1;

        speeds(words, 0x802C542A);
        words[2] = (words[2] & ~010017) | 010000;
        words[10] = 12345;
        speeds(words, 0x402C542B);
        CALL(ioctl(master, TIOCSPTLCK, &is));
        ready_and_wait();
        speeds(words, 0x802C542A);
        CHECK(words[10] == 12345 && (words[2] & 010017) == 010000);
        is = 0;
        CALL(ioctl(master, TIOCGPTLCK, &is));
        CHECK(is == 1);
        CHECK(open(ptsname(master), O_RDWR | O_NOCTTY) < 0 && errno == EIO);
}

static void left(void)
{
        put(slave, "last words\n");
        close(slave);
        ready_and_wait();
        CHECK(has(master, POLLHUP));
        comes("last words\r\n");
        char byte;
        CHECK(read(master, &byte, 1) < 0 && errno == EIO);
}

static void stopped(void)
{
        put(slave, "before");
        change(quiet);
        put(master, "half\023");
        while (has(slave, POLLOUT))
                ;
        CALL(fcntl(slave, F_SETFL, O_NONBLOCK));
        ready_and_wait();
        CHECK(!has(slave, POLLOUT));
        CHECK(write(slave, "x", 1) < 0 && errno == EAGAIN);
        put(master, "\021 line\n");
        while (!has(slave, POLLOUT) || !has(slave, POLLIN))
                ;
        is_read(slave, "half line\n");
        put(slave, " after");
        comes("before after");
}

int main(int argc, char **argv)
{
        CHECK(argc == 2);
        master = new_master(O_CLOEXEC);
        slave = !strcmp(argv[1], "raw") ? CALL(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY))
                                        : open_slave(master, O_RDWR);
        if (!strcmp(argv[1], "raw"))
                raw();
        else if (!strcmp(argv[1], "lines"))
                lines();
        else if (!strcmp(argv[1], "packets"))
                packets();
        else if (!strcmp(argv[1], "locked"))
                locked();
        else if (!strcmp(argv[1], "left"))
                left();
        else
                stopped();
        pass();
}
