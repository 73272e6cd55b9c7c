/* comm of process and thread, a rewritten command line, environment, auxiliary vector, exe. */
#include "victim.h"
#include <sys/auxv.h>

extern char **environ;

static void *body(void *built)
{
        char name[16];

        ZERO(pthread_setname_np(pthread_self(), "a worker"));
        pthread_barrier_wait(built);
        wait_for("go");
        ZERO(pthread_getname_np(pthread_self(), name, sizeof(name)));
        CHECK(strcmp(name, "a worker") == 0);
        return NULL;
}

static ssize_t slurp(const char *path, char *into, size_t size)
{
        int fd = CALL(open(path, O_RDONLY));
        ssize_t length = CALL(read(fd, into, size - 1));

        into[length] = 0;
        close(fd);
        return length;
}

int main(UNUSED int argc, char **argv)
{
        static char auxv[2][2048], exe[2][512], text[4096], name[16];
        pthread_barrier_t built;
        pthread_t thread;
        int renamed = open("/proc/self/comm", O_WRONLY | O_CLOEXEC);

        CHECK(renamed >= 0);
        close(renamed);
        CALL(prctl(PR_SET_NAME, "odd (name) x"));
        ssize_t before = slurp("/proc/self/auxv", auxv[0], sizeof(auxv[0]));
        CALL(readlink("/proc/self/exe", exe[0], sizeof(exe[0]) - 1));
        memset(argv[0], 'z', strlen(argv[0])); /* as setproctitle(3) does */
        ZERO(setenv("VICTIM_LATE", "a value", 1));
        unsigned long random = getauxval(AT_RANDOM);
        ZERO(pthread_barrier_init(&built, NULL, 2));
        ZERO(pthread_create(&thread, NULL, body, &built));
        pthread_barrier_wait(&built);
        ready_and_wait();
        CHECK(slurp("/proc/self/auxv", auxv[1], sizeof(auxv[1])) == before);
        CHECK(memcmp(auxv[0], auxv[1], before) == 0);
        CALL(readlink("/proc/self/exe", exe[1], sizeof(exe[1]) - 1));
        CHECK(strcmp(exe[0], exe[1]) == 0);
        CHECK(getauxval(AT_RANDOM) == random);
        CALL(prctl(PR_GET_NAME, name));
        CHECK(strcmp(name, "odd (name) x") == 0);
        slurp("/proc/self/cmdline", text, sizeof(text));
        CHECK(text[0] == 'z' && strcmp(text, argv[0]) == 0);
        slurp("/proc/self/environ", text, sizeof(text));
        CHECK(strncmp(text, "PATH=", 5) == 0 || strstr(text, "VICTIM_FOLDER=") != NULL);
        CHECK(strcmp(getenv("VICTIM_LATE"), "a value") == 0);
        ZERO(pthread_join(thread, NULL));
        pass();
}
