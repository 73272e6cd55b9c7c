// dump: --risk-seccomp
/* Two children and a thread in strict mode, which may read, write and end, and handle signals. One
 * of the children does more at the end, and must die of it. */
#include "victim.h"
#include <linux/seccomp.h>

static int go[2], built[2], caught[2], ended[2];
static char alternate[1 << 14];

static void handle(int number)
{
        char on_alternate, byte = number == SIGUSR1 ? 'h' : '?';

        if (&on_alternate < alternate || &on_alternate >= alternate + sizeof(alternate))
                byte = '!';
        if (write(caught[1], &byte, 1) != 1)
                syscall(SYS_exit, 5);
}

static void be_strict(void)
{
        CALL(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
        tell(built[1]);
        hear(go[0]);
}

static void faithful(void)
{
        stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
        struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART | SA_ONSTACK};

        CALL(sigaltstack(&stack, NULL));
        CALL(sigaction(SIGUSR1, &action, NULL));
        be_strict();
        tell(ended[1]);
        syscall(SYS_exit, 7);
}

static void faithless(void)
{
        be_strict();
        syscall(SYS_getpid);
        tell(ended[1]);
        syscall(SYS_exit, 7);
}

static void *threaded(void *unused)
{
        (void)unused;
        be_strict();
        tell(ended[1]);
        syscall(SYS_exit, 0);
        return NULL;
}

int main(void)
{
        pthread_t thread;
        int status;
        char byte;

        for (int *pair = go;; pair = pair == go ? built : pair == built ? caught : ended) {
                CALL(pipe(pair));
                if (pair == ended)
                        break;
        }
        pid_t good = child(faithful), bad = child(faithless);
        ZERO(pthread_create(&thread, NULL, threaded, NULL));
        for (int i = 0; i < 3; i++)
                hear(built[0]);
        until_blocked(good);
        until_blocked(bad);
        ready_and_wait();
        CHECK(prctl(PR_GET_SECCOMP) == 0);
        CALL(kill(good, SIGUSR1));
        CHECK(CALL(read(caught[0], &byte, 1)) == 1 && byte == 'h');
        for (int i = 0; i < 3; i++)
                tell(go[1]);
        CHECK(CALL(waitpid(good, &status, 0)) == good);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
        CHECK(CALL(waitpid(bad, &status, 0)) == bad);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        ZERO(pthread_join(thread, NULL));
        hear(ended[0]);
        hear(ended[0]);
        pass();
}
