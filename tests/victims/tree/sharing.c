// args: files fs memory handlers
// args: files memory handlers sibling
// args: files fs silent
// args: memory threads
// not live: memory that several processes share
/* Processes that share only a part: descriptor table, working directory, memory, signal actions, by
 * clone(2) from the parent or, with CLONE_PARENT, from a sibling. What one changes after the
 * restore the others see, and what is not shared stays apart. */
#include "victim.h"
#include <sched.h>

enum { FAMILY = 3 };
static char stacks[FAMILY][64 * 1024] __attribute__((aligned(16)));
static struct {
        int start[FAMILY][2], done[2];
} *pipes; /* shared memory, so that all have the numbers */
static int flags, silent, sibling, threads;
static volatile int *word; /* private memory */
static pid_t *pids;

static void handler(UNUSED int number)
{
}

/* A thread of its own in each process of one memory. */
static void *sleeper(void *go)
{
        pthread_barrier_wait(go);
        return NULL;
}

/* Each thing that could be shared is changed. */
static void change(void)
{
        char there[4096];
        struct sigaction action = {.sa_handler = handler};

        CHECK(dup2(pipes->done[0], 200) == 200);
        CHECK(mkdir(in_folder("below"), 0755) == 0 || errno == EEXIST);
        CALL(chdir(in_folder("below")));
        CHECK(getcwd(there, sizeof(there)) != NULL);
        *word = 4711;
        CALL(sigaction(SIGUSR2, &action, NULL));
}

/* Whether the caller sees what another process has changed. */
static void see(int shared)
{
        char there[4096];
        struct sigaction action;

        CHECK((fcntl(200, F_GETFD) >= 0) == !!(shared & CLONE_FILES));
        CHECK(getcwd(there, sizeof(there)) != NULL);
        CHECK((strstr(there, "/below") != NULL) == !!(shared & CLONE_FS));
        CHECK((*word == 4711) == !!(shared & CLONE_VM));
        CALL(sigaction(SIGUSR2, NULL, &action));
        CHECK((action.sa_handler == handler) == !!(shared & CLONE_SIGHAND));
}

static int body(void *number)
{
        int me = (int)(intptr_t)number;
        pid_t pid = getpid();
        pthread_barrier_t go;
        pthread_t thread = 0;

        if (threads) {
                ZERO(pthread_barrier_init(&go, NULL, 2));
                thread = started_thread(sleeper, &go);
        }
        if (me + 1 < FAMILY && sibling)
                pids[me + 1] = CALL(clone(body, stacks[me + 1] + sizeof(stacks[0]),
                                          flags | CLONE_PARENT, (void *)(intptr_t)(me + 1)));
        tell(pipes->done[1]);
        hear(pipes->start[me][0]);
        CHECK(getpid() == pid && getppid() == pids[FAMILY]);
        if (threads) {
                pthread_barrier_wait(&go);
                ZERO(pthread_join(thread, NULL));
        }
        if (me == 0)
                change();
        else
                see(flags);
        tell(pipes->done[1]);
        return 0;
}

static void *all_see(size_t size)
{
        void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        CHECK(at != MAP_FAILED);
        return at;
}

static void options(char **argv)
{
        for (; *argv; argv++) {
                flags |= !strcmp(*argv, "files") ? CLONE_FILES : 0;
                flags |= !strcmp(*argv, "fs") ? CLONE_FS : 0;
                flags |= !strcmp(*argv, "memory") ? CLONE_VM : 0;
                flags |= !strcmp(*argv, "handlers") ? CLONE_VM | CLONE_SIGHAND : 0;
                silent |= !strcmp(*argv, "silent");
                sibling |= !strcmp(*argv, "sibling");
                threads |= !strcmp(*argv, "threads");
        }
}

int main(UNUSED int argc, char **argv)
{
        int status;

        options(argv + 1);
        pipes = all_see(sizeof(*pipes));
        pids = all_see((FAMILY + 1) * sizeof(*pids));
        word = anonymous(PAGE);
        pids[FAMILY] = getpid();
        for (int i = 0; i < FAMILY; i++)
                CALL(pipe(pipes->start[i]));
        CALL(pipe(pipes->done));
        for (int i = 0; i < FAMILY; i++) {
                if (i == 0 || !sibling)
                        pids[i] = CALL(clone(body, stacks[i] + sizeof(stacks[0]),
                                             (sibling ? 0 : flags) | (silent ? 0 : SIGCHLD),
                                             (void *)(intptr_t)i));
                hear(pipes->done[0]);
        }
        ready_and_wait();
        for (int i = 0; i < FAMILY; i++) {
                tell(pipes->start[i][1]);
                hear(pipes->done[0]);
        }
        see(sibling ? 0 : flags);
        CHECK(!silent || (waitpid(-1, &status, 0) == -1 && errno == ECHILD));
        for (int i = 0; i < FAMILY; i++)
                CHECK(CALL(waitpid(pids[i], &status, __WALL)) == pids[i] && status == 0);
        pass();
}
