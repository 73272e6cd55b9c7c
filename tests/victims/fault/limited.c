// args: plain
/* A process that may do little: what the argument names is set before it is ready, and must be as
 * it was afterwards. Four threads, so that there are others than the leader. */
#include "victim.h"

#include <grp.h>
#include <sys/resource.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif

static unsigned long pages_used(void)
{
        unsigned long pages = 0;
        char text[128];
        int fd = CALL(open("/proc/self/statm", O_RDONLY | O_CLOEXEC));

        text[CALL(read(fd, text, sizeof(text) - 1))] = 0;
        close(fd);
        pages = strtoul(text, NULL, 10);
        CHECK(pages);
        return pages;
}

static void become_nobody(void)
{
        CALL(setgroups(0, NULL));
        CALL(setresgid(65534, 65534, 65534));
        CALL(setresuid(65534, 65534, 65534));
}

static void limit(int resource, rlim_t soft, rlim_t hard)
{
        struct rlimit both = {soft, hard};

        CALL(setrlimit(resource, &both));
}

static void *body(UNUSED void *unused)
{
        wait_for("go");
        return NULL;
}

int main(int argc, char **argv)
{
        struct rlimit before[RLIM_NLIMITS], now;
        const char *what = argv[1];
        pthread_t thread[3];

        CHECK(argc == 2);
        for (int i = 0; i < 3; i++)
                ZERO(pthread_create(&thread[i], NULL, body, NULL));
        if (!strcmp(what, "as"))
                limit(RLIMIT_AS, pages_used() * PAGE, RLIM_INFINITY);
        else if (!strcmp(what, "as_hard"))
                limit(RLIMIT_AS, pages_used() * PAGE, pages_used() * PAGE);
        else if (!strcmp(what, "data"))
                limit(RLIMIT_DATA, PAGE, RLIM_INFINITY);
        else if (!strcmp(what, "fsize"))
                limit(RLIMIT_FSIZE, 0, RLIM_INFINITY); /* raised again, to tell of it */
        else if (!strcmp(what, "mlock")) {
                become_nobody();
                CALL(mlockall(MCL_FUTURE));
                limit(RLIMIT_MEMLOCK, PAGE, 1 << 20);
        } else if (!strcmp(what, "nobody"))
                become_nobody();
        else if (!strcmp(what, "undumpable"))
                CALL(prctl(PR_SET_DUMPABLE, 0));
        else if (!strcmp(what, "mdwe"))
                CALL(prctl(PR_SET_MDWE, 1, 0, 0, 0));
        else
                CHECK(!strcmp(what, "plain"));
        for (int i = 0; i < (int)RLIM_NLIMITS; i++)
                CALL(getrlimit(i, &before[i]));
        ready_and_wait();
        for (int i = 0; i < (int)RLIM_NLIMITS; i++) {
                CALL(getrlimit(i, &now));
                CHECK(memcmp(&before[i], &now, sizeof(now)) == 0);
        }
        limit(RLIMIT_FSIZE, before[RLIMIT_FSIZE].rlim_max, before[RLIMIT_FSIZE].rlim_max);
        for (int i = 0; i < 3; i++)
                ZERO(pthread_join(thread[i], NULL));
        if (!strcmp(what, "undumpable"))
                CHECK(prctl(PR_GET_DUMPABLE) == 0);
        if (!strcmp(what, "mdwe"))
                CHECK(prctl(PR_GET_MDWE, 0, 0, 0, 0) == 1);
        pass();
}
