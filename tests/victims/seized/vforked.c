// A parent that sleeps in vfork(2), which nothing but the end or exec of its child interrupts. With
// an argument the child ends by itself after a while, again and again; without, on SIGUSR1.
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void quit(int number)
{
        (void)number;
        _exit(0);
}

static int one_child(int ends_itself)
{
        int status;
        pid_t pid = vfork();

        if (!pid) {
                if (write(1, "ready\n", 6) != 6)
                        _exit(1);
                if (ends_itself)
                        usleep(20000);
                else
                        pause();
                _exit(0);
        }
        return pid < 0 || waitpid(pid, &status, 0) != pid || status;
}

int main(int argc, char **argv)
{
        (void)argv;
        signal(SIGUSR1, quit);
        for (int i = 0; i < (argc > 1 ? 20 : 1); i++)
                if (one_child(argc > 1))
                        return 1;
        puts("whole");
        return 0;
}
