/*
 * What epoll instances watch: targets under other numbers than they were added by, closed ones that
 * live through a duplicate, numbers that stand for something else now, nested instances, edges,
 * one-shot watches that are armed and that have fired.
 */
#include "victim.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int poller;

static void control(int epoll, int what, int fd, uint32_t events, uint64_t data)
{
        struct epoll_event event = {.events = events, .data.u64 = data};

        CALL(epoll_ctl(epoll, what, fd, &event));
}

/* The one event that there is. */
static uint64_t event_of(int epoll, uint32_t events)
{
        struct epoll_event got[4];

        CHECK(epoll_wait(epoll, got, 4, 0) == 1);
        CHECK(got[0].events == events);
        return got[0].data.u64;
}

static int nothing(int epoll)
{
        struct epoll_event got;

        return epoll_wait(epoll, &got, 1, 0) == 0;
}

static void fdinfo(int fd, char *text, size_t size)
{
        char path[64];

        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
        int info = CALL(open(path, O_RDONLY));
        ssize_t length = CALL(read(info, text, size - 1));
        text[length] = 0;
        close(info);
}

/* The watches of an instance, as fdinfo shows them, but for inodes. */
static void watches(int epoll, char *text, size_t size)
{
        char whole[4096], *save = NULL;
        unsigned int tfd, events;
        unsigned long long data;

        fdinfo(epoll, whole, sizeof(whole));
        *text = 0;
        for (char *line = strtok_r(whole, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
                if (sscanf(line, "tfd: %u events: %x data: %llx", &tfd, &events, &data) == 3) {
                        size_t used = strlen(text);
                        snprintf(text + used, size - used, "%u %x %llx\n", tfd, events, data);
                }
}

/* Lines in any order. */
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

int main(void)
{
        char before[4096], after[4096];
        int plain[2], moved[2], twice[2], oneshot[2], fired[2], quiet[2], edge[2];
        uint64_t value = 1;

        poller = CALL(epoll_create1(EPOLL_CLOEXEC));
        int inner = CALL(epoll_create1(0)), outer = CALL(epoll_create1(0));
        int counter = CALL(eventfd(0, 0));
        CALL(pipe(plain));
        CALL(pipe(moved));
        CALL(pipe(twice));
        CALL(pipe(oneshot));
        CALL(pipe(fired));
        CALL(pipe(quiet));
        CALL(pipe(edge));
        control(poller, EPOLL_CTL_ADD, plain[0], EPOLLIN | EPOLLPRI, 0x1122334455667788);
        /* Closed under the number that it was added by; that number is free now. */
        control(poller, EPOLL_CTL_ADD, moved[0], EPOLLIN, 2);
        int kept = CALL(fcntl(moved[0], F_DUPFD, 100));
        close(moved[0]);
        /* The same number twice: first for what lives under 101 now, then for what stands there. */
        control(poller, EPOLL_CTL_ADD, twice[0], EPOLLIN, 3);
        CALL(fcntl(twice[0], F_DUPFD, 101));
        CALL(dup2(counter, twice[0]));
        control(poller, EPOLL_CTL_ADD, twice[0], EPOLLIN, 4);
        control(poller, EPOLL_CTL_ADD, counter, EPOLLIN | EPOLLET, 5);
        control(poller, EPOLL_CTL_ADD, oneshot[0], EPOLLIN | EPOLLONESHOT, 6);
        control(poller, EPOLL_CTL_ADD, edge[0], EPOLLIN | EPOLLET | EPOLLRDHUP, 9);
        /* Fired, and its byte still there; and one whose byte has been read. */
        control(poller, EPOLL_CTL_ADD, fired[0], EPOLLIN | EPOLLONESHOT, 7);
        tell(fired[1]);
        CHECK(event_of(poller, EPOLLIN) == 7);
        control(poller, EPOLL_CTL_ADD, quiet[1], EPOLLOUT | EPOLLONESHOT, 8);
        CHECK(event_of(poller, EPOLLOUT) == 8);
        control(inner, EPOLL_CTL_ADD, poller, EPOLLIN, 10);
        control(outer, EPOLL_CTL_ADD, inner, EPOLLIN, 11);
        control(outer, EPOLL_CTL_ADD, quiet[0], EPOLLIN | EPOLLEXCLUSIVE, 12);
        watches(poller, before, sizeof(before));

        ready_and_wait();
        watches(poller, after, sizeof(after));
        if (!same_lines(before, after)) {
                say("%s---\n%s", before, after);
                fail(__FILE__, __LINE__, "the watches differ");
        }
        CHECK(fcntl(poller, F_GETFD) == FD_CLOEXEC && fcntl(inner, F_GETFD) == 0);
        CHECK(nothing(poller) && nothing(inner) && nothing(outer));
        tell(plain[1]);
        CHECK(event_of(outer, EPOLLIN) == 11 && event_of(inner, EPOLLIN) == 10);
        CHECK(event_of(poller, EPOLLIN) == 0x1122334455667788);
        hear(plain[0]);
        CHECK(nothing(outer));
        tell(moved[1]);
        CHECK(event_of(poller, EPOLLIN) == 2);
        hear(kept);
        tell(twice[1]);
        CHECK(event_of(poller, EPOLLIN) == 3);
        hear(101);
        /* The counter is watched twice, once by its edges. */
        struct epoll_event got[4];
        CHECK(write(counter, &value, 8) == 8);
        CHECK(epoll_wait(poller, got, 4, 0) == 2);
        CHECK(event_of(poller, EPOLLIN) == 4);
        CHECK(read(counter, &value, 8) == 8 && value == 1 && nothing(poller));
        tell(oneshot[1]);
        CHECK(event_of(poller, EPOLLIN) == 6 && nothing(poller));
        control(poller, EPOLL_CTL_MOD, oneshot[0], EPOLLIN | EPOLLONESHOT, 16);
        CHECK(event_of(poller, EPOLLIN) == 16);
        tell(edge[1]);
        CHECK(event_of(poller, EPOLLIN) == 9 && nothing(poller));
        tell(quiet[1]);
        CHECK(event_of(outer, EPOLLIN) == 12);
        close(fired[1]);
        CHECK(nothing(poller));
        control(poller, EPOLL_CTL_MOD, fired[0], EPOLLIN | EPOLLONESHOT, 17);
        CHECK(event_of(poller, EPOLLIN | EPOLLHUP) == 17);
        control(poller, EPOLL_CTL_DEL, plain[0], 0, 0);
        CHECK(epoll_ctl(poller, EPOLL_CTL_ADD, outer, &(struct epoll_event){0}) == -1);
        CHECK(errno == ELOOP);
        pass();
}
