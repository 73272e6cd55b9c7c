/*
 * A session with its controlling terminal, both ends in the tree, as a terminal program has a
 * shell: the root holds the master; its child leads the session and has /dev/tty open, a job in the
 * foreground, one in the background, and one that gave the terminal up.
 */
#include "pty.h"

static int to_root[2], job_done[2];
static volatile sig_atomic_t interrupted, hung_up;

static void on_interrupt(int signum)
{
        (void)signum;
        interrupted = 1;
}

static void on_hang_up(int signum)
{
        (void)signum;
        hung_up = 1;
}

static void catch(int signum, void (*handler)(int))
{
        struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};

        CALL(sigaction(signum, &action, NULL));
}

/* Gets the ^C that is typed at the master. */
static void foreground(void)
{
        sigset_t only, all;

        CALL(setpgid(0, 0));
        catch(SIGINT, on_interrupt);
        sigemptyset(&only);
        sigaddset(&only, SIGINT);
        sigprocmask(SIG_BLOCK, &only, &all);
        tell(job_done[1]);
        wait_for("go");
        CHECK(tcgetpgrp(0) == getpid());
        tell(to_root[1]);
        while (!interrupted)
                sigsuspend(&all);
}

/* Must not get it, and may not read. */
static void background(void)
{
        int fd;

        CALL(setpgid(0, 0));
        tell(job_done[1]);
        wait_for("go");
        signal(SIGTTIN, SIG_IGN);
        CHECK(tcgetpgrp(0) != getpgrp() && tcgetsid(0) == getsid(0));
        char byte;
        CHECK(read(0, &byte, 1) < 0 && errno == EIO);
        fd = CALL(open("/dev/tty", O_RDWR));
        close(fd);
}

static void without(void)
{
        CALL(ioctl(0, TIOCNOTTY));
        tell(job_done[1]);
        wait_for("go");
        CHECK(open("/dev/tty", O_RDWR) < 0 && errno == ENXIO);
        CHECK(tcgetpgrp(0) < 0 && errno == ENOTTY);
}

static void shell(int master)
{
        pid_t jobs[3];

        CHECK(setsid() == getpid());
        int slave = open_slave(master, O_RDWR);
        close(master);
        CALL(dup2(slave, 0));
        close(slave);
        CALL(ioctl(0, TIOCSCTTY, 0));
        int tty = CALL(open("/dev/tty", O_RDWR | O_CLOEXEC));
        signal(SIGTTOU, SIG_IGN);
        catch(SIGHUP, on_hang_up);
        catch(SIGINT, on_interrupt);
        jobs[0] = child(foreground);
        jobs[1] = child(background);
        jobs[2] = child(without);
        for (int i = 0; i < 3; i++)
                hear(job_done[0]);
        CALL(tcsetpgrp(tty, jobs[0]));
        tell(to_root[1]);
        wait_for("go");
        CHECK(tcgetsid(tty) == getpid() && tcgetsid(0) == getpid());
        CHECK(tcgetpgrp(tty) == jobs[0]);
        CHECK(write(tty, "word", 4) == 4);
        for (int i = 0; i < 3; i++)
                join_child(jobs[i]);
        CHECK(!interrupted);
        CALL(tcsetpgrp(tty, getpid()));
        tell(to_root[1]);
        while (!hung_up)
                sched_yield();
        char byte;
        CHECK(read(0, &byte, 1) == 0);
}

int main(void)
{
        int master = new_master(O_CLOEXEC);
        char word[4];

        CALL(pipe2(to_root, O_CLOEXEC));
        CALL(pipe2(job_done, O_CLOEXEC));
        pid_t leader = CALL(fork());
        if (leader == 0) {
                shell(master);
                _exit(0);
        }
        hear(to_root[0]);
        ready_and_wait();
        hear(to_root[0]); /* the job in the foreground waits for it */
        for (size_t got = 0; got < sizeof(word);)
                got += CALL(read(master, word + got, sizeof(word) - got));
        CHECK(!memcmp(word, "word", 4));
        CHECK(write(master, "\003", 1) == 1);
        hear(to_root[0]);
        close(master);
        join_child(leader);
        pass();
}
