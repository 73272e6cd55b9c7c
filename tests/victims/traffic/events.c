// SPDX-License-Identifier: GPL-2.0-only
/*
 * events DUTIES SEED [away]: counters, timers and signals, drawn at random; each result is checked
 * against what it has to be.
 */
#include "drawn.h"

#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

/* One that nobody else writes to, in both modes. */
static void counters(uint64_t nr)
{
        static int fds[2];
        static uint64_t held[2];

        if (!nr)
                for (int i = 0; i < 2; i++)
                        fds[i] = CALL(eventfd(0, EFD_NONBLOCK | (i ? EFD_SEMAPHORE : 0)));
        for (int step = 0; step < 16; step++) {
                int i = (int)any(2);
                uint64_t value = any(5), most = UINT64_MAX - 1 - held[i];

                switch (any(4)) {
                case 0:
                        CHECK(write(fds[i], &value, 8) == 8);
                        held[i] += value;
                        break;
                case 1:
                        errno = 0;
                        CHECK(read(fds[i], &value, 8) == (held[i] ? 8 : -1));
                        CHECK(held[i] ? value == (i ? 1 : held[0]) : errno == EAGAIN);
                        held[i] = held[i] && i ? held[i] - 1 : 0;
                        break;
                case 2:
                        value = most + 1 + any(held[i] + 1);
                        if (value < UINT64_MAX)
                                CHECK(write(fds[i], &value, 8) == -1 && errno == EAGAIN);
                        break;
                default:
                        CHECK(polled(fds[i], POLLIN | POLLOUT) ==
                              (held[i] ? POLLIN | POLLOUT : POLLOUT));
                }
        }
        rest();
}

static pid_t partner(void (*body)(void))
{
        pid_t pid = CALL(fork());

        if (pid)
                return pid;
        CALL(prctl(PR_SET_PDEATHSIG, SIGKILL));
        alarm(LONGEST_S);
        for (;;)
                body();
}

/* A sum that goes to and fro between two that wait for each other. */
static int ping, pong;

static void give_back(void)
{
        uint64_t value;

        CHECK(read(ping, &value, 8) == 8);
        CHECK(write(pong, &value, 8) == 8);
}

static void sums(uint64_t nr)
{
        uint64_t value = 1 + any(1000), got, sum = 0;

        if (!nr) {
                ping = CALL(eventfd(0, 0));
                pong = CALL(eventfd(0, EFD_SEMAPHORE));
                partner(give_back);
        }
        value %= 40;
        value++;
        CHECK(write(ping, &value, 8) == 8);
        while (sum < value) {
                CHECK(read(pong, &got, 8) == 8 && got == 1);
                sum += got;
        }
        CHECK(polled(pong, POLLIN) == 0);
        rest();
}

/* A periodic timer since `before` or `after`; `count` of its ticks have been told. */
struct periodic {
        clockid_t clock;
        uint64_t every, before, after, count;
};

/* At some moment between `first` and `last`, so long was `left`; all ticks until then are told. */
static void judge(const struct periodic *p, uint64_t first, uint64_t last, uint64_t left)
{
        uint64_t most = (now(p->clock) - p->before) / p->every, half = p->every / 2;

        if (p->count > most)
                say("%lu ticks of clock %d, of %lu\n", p->count, p->clock, most);
        CHECK(p->count <= most);
        if (away || left < 2 || p->after - p->before >= half / 2 || last - first >= half / 2)
                return;
        uint64_t least = (first + left - p->before + half) / p->every - 1;
        if (p->count < least)
                say("%lu ticks, not %lu\n", p->count, least);
        CHECK(p->count >= least);
}

static void ticks(uint64_t nr)
{
        static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME};
        static struct periodic all[2];
        static int fds[2];
        int i = (int)any(2);
        struct periodic *p = &all[i];
        struct itimerspec times;
        uint64_t more = 0;

        if (!nr)
                for (int k = 0; k < 2; k++)
                        fds[k] = CALL(timerfd_create(clocks[k], TFD_NONBLOCK));
        if (!p->every || any(50) == 0) {
                *p = (struct periodic){.clock = clocks[i], .every = 100000 + any(900000)};
                times = (struct itimerspec){spec(p->every), spec(p->every)};
                int how = any(2) ? TFD_TIMER_ABSTIME : 0;

                p->before = now(p->clock);
                if (how)
                        times.it_value = spec(p->before + p->every);
                CALL(timerfd_settime(fds[i], how, &times, NULL));
                p->after = how ? p->before : now(p->clock);
        }
        uint64_t first = now(p->clock);
        CALL(timerfd_gettime(fds[i], &times));
        uint64_t last = now(p->clock);
        CHECK(ns_of(times.it_interval) == p->every && ns_of(times.it_value) <= p->every);
        if (read(fds[i], &more, 8) == -1)
                CHECK(errno == EAGAIN);
        p->count += more;
        judge(p, first, last, ns_of(times.it_value));
        usleep((useconds_t)any(1500));
}

/* A timer that ticks once, and not too early. */
static void once(uint64_t nr)
{
        static int fds[3];
        static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME};
        int i = (int)any(3), how = i == 2 || any(2) ? TFD_TIMER_ABSTIME : 0;
        uint64_t left = 1 + any(2000000), end = now(clocks[i]) + left, got;
        struct itimerspec times = {.it_value = spec(how ? end : left)}, is;

        if (!nr)
                for (int k = 0; k < 3; k++)
                        fds[k] = CALL(timerfd_create(clocks[k], TFD_CLOEXEC));
        CALL(timerfd_settime(fds[i], how, &times, NULL));
        CALL(timerfd_gettime(fds[i], &is));
        CHECK(ns_of(is.it_value) <= left + (i == 2 ? NS : 0) && !ns_of(is.it_interval));
        CHECK(read(fds[i], &got, 8) == 8 && got == 1);
        CHECK(now(clocks[i]) >= end);
        CALL(timerfd_gettime(fds[i], &is));
        CHECK(!ns_of(is.it_value) && !polled(fds[i], POLLIN));
}

static void block(int from, int nr)
{
        sigset_t set;

        sigemptyset(&set);
        for (int i = 0; i < nr; i++)
                sigaddset(&set, SIGRTMIN + from + i);
        ZERO(pthread_sigmask(SIG_BLOCK, &set, NULL));
}

/* Signals of a timer, each of which tells how many it stands for. */
static void overruns(uint64_t nr)
{
        static struct periodic p = {.clock = CLOCK_MONOTONIC};
        static timer_t timer;
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 5};
        struct itimerspec times;
        struct timespec none = {0};
        sigset_t set;
        siginfo_t info;

        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN + 5);
        if (!nr)
                block(5, 1);
        if (nr % 50 == 0) {
                if (nr)
                        CALL(timer_delete(timer));
                while (sigtimedwait(&set, &info, &none) > 0)
                        ;
                CALL(timer_create(p.clock, &event, &timer));
                p.every = 100000 + any(900000);
                p.count = 0;
                times = (struct itimerspec){spec(p.every), spec(p.every)};
                p.before = now(p.clock);
                CALL(timer_settime(timer, 0, &times, NULL));
                p.after = now(p.clock);
        }
        uint64_t first = now(p.clock);
        CALL(timer_gettime(timer, &times));
        uint64_t last = now(p.clock);
        CHECK(ns_of(times.it_interval) == p.every && ns_of(times.it_value) <= p.every);
        if (sigtimedwait(&set, &info, &none) > 0) {
                CHECK(info.si_code == SI_TIMER && info.si_overrun >= 0);
                int told = CALL(timer_getoverrun(timer));
                if (!away)
                        CHECK(told == info.si_overrun);
                p.count += 1 + (uint64_t)info.si_overrun;
        }
        judge(&p, first, last, ns_of(times.it_value));
        usleep((useconds_t)any(1500));
}

/* Signals to ourselves, read out of a descriptor: the lowest first, and each kind in its order. */
static void queued(uint64_t nr)
{
        static int fd;
        static int next[3], value;
        struct signalfd_siginfo got[12];
        int sent[3][12], nr_sent[3] = {0}, nr_all = 1 + (int)any(8), nr_got = 0;
        sigset_t set;

        memset(next, 0, sizeof(next));
        sigemptyset(&set);
        for (int i = 0; i < 3; i++)
                sigaddset(&set, SIGRTMIN + i);
        if (!nr) {
                block(0, 3);
                fd = CALL(signalfd(-1, &set, SFD_NONBLOCK));
        }
        for (int i = 0; i < nr_all; i++) {
                int which = (int)any(3);

                CALL(sigqueue(getpid(), SIGRTMIN + which, (union sigval){.sival_int = ++value}));
                sent[which][nr_sent[which]++] = value;
        }
        while (nr_got < nr_all) {
                ssize_t bytes = read(fd, got, sizeof(*got) * (1 + any(12)));

                CHECK(bytes > 0 && bytes % (ssize_t)sizeof(*got) == 0);
                for (int i = 0; i < (int)(bytes / (ssize_t)sizeof(*got)); i++, nr_got++) {
                        int which = (int)got[i].ssi_signo - SIGRTMIN;

                        CHECK(which >= 0 && which < 3 && next[which] < nr_sent[which]);
                        for (int lower = 0; lower < which; lower++)
                                CHECK(next[lower] == nr_sent[lower]);
                        CHECK(got[i].ssi_int == sent[which][next[which]++]);
                        CHECK(got[i].ssi_code == SI_QUEUE && got[i].ssi_pid == (unsigned)getpid());
                }
        }
        CHECK(read(fd, got, sizeof(got)) == -1 && errno == EAGAIN);
        rest();
}

/* Signals of another process, waited for in read(2). */
static int credit;

static void send_one(void)
{
        static int nr;
        uint64_t got;

        CHECK(read(credit, &got, 8) == 8);
        CALL(sigqueue(getppid(), SIGRTMIN + 3, (union sigval){.sival_int = nr++}));
}

static void signalled(uint64_t nr)
{
        static int fd;
        static pid_t pid;
        struct signalfd_siginfo got;
        sigset_t set;
        uint64_t more = 7;

        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN + 3);
        if (!nr) {
                block(3, 1);
                fd = CALL(signalfd(-1, &set, 0));
                credit = CALL(eventfd(0, EFD_SEMAPHORE));
                pid = partner(send_one);
        }
        if (nr % 7 == 0)
                CHECK(write(credit, &more, 8) == 8);
        CHECK(read(fd, &got, sizeof(got)) == sizeof(got));
        CHECK(got.ssi_int == (int)nr && got.ssi_pid == (unsigned)pid);
        rest();
}

static const struct duty duties[] = {
    {"counters", counters}, {"sums", sums},     {"ticks", ticks},         {"once", once},
    {"overruns", overruns}, {"queued", queued}, {"signalled", signalled},
};

int main(int argc, char **argv)
{
        perform_drawn(duties, sizeof(duties) / sizeof(*duties), argc, argv);
}
