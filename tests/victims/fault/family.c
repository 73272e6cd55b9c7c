/* A small tree with something of everything that a restore builds: a second thread, a child that
 * shares memory and a pipe, a zombie. */
#include "victim.h"

static int ends[2];
static char *shared;
static pid_t second;
static pthread_barrier_t born;

static void gone(void)
{
        _exit(17);
}

static void member(void)
{
        wait_for("go");
        hear(ends[0]);
        CHECK(filled(shared, PAGE, 2));
}

static void *body(void *memory)
{
        second = tid_of_caller();
        pthread_barrier_wait(&born);
        wait_for("go");
        CHECK(filled(memory, 8 * PAGE, 1));
        return NULL;
}

int main(void)
{
        char *memory = anonymous(8 * PAGE);
        pthread_t thread;
        siginfo_t info;
        int status;

        shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(shared != MAP_FAILED);
        fill(memory, 8 * PAGE, 1);
        fill(shared, PAGE, 2);
        CALL(pipe(ends));
        pid_t zombie = child(gone);
        CALL(waitid(P_PID, zombie, &info, WEXITED | WNOWAIT));
        pid_t kid = child(member);
        ZERO(pthread_barrier_init(&born, NULL, 2));
        ZERO(pthread_create(&thread, NULL, body, memory));
        pthread_barrier_wait(&born);
        until_blocked(second);
        ready_and_wait();
        ZERO(pthread_join(thread, NULL));
        CHECK(filled(memory, 8 * PAGE, 1));
        tell(ends[1]);
        join_child(kid);
        CHECK(CALL(waitpid(zombie, &status, 0)) == zombie && status == 17 << 8);
        pass();
}
