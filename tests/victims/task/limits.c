// args: root
// args: nobody
/* Resource limits, soft and hard, lower than those of the one who restores. */
#include "victim.h"
#include <sys/resource.h>

static const struct {
        int which;
        struct rlimit limit;
} limits[] = {
    {RLIMIT_NOFILE, {40, 50}},
    {RLIMIT_CORE, {0, 1 << 20}},
    {RLIMIT_FSIZE, {16384, 32768}},
    {RLIMIT_STACK, {1 << 20, 4 << 20}},
    {RLIMIT_NPROC, {500, 600}},
    {RLIMIT_AS, {512 << 20, 600 << 20}},
    {RLIMIT_MEMLOCK, {65536, 65536}},
    {RLIMIT_SIGPENDING, {100, 200}},
    {RLIMIT_MSGQUEUE, {1000, 2000}},
    {RLIMIT_CPU, {1000, 2000}},
    {RLIMIT_DATA, {64 << 20, 128 << 20}},
    {RLIMIT_LOCKS, {5, 6}},
};

int main(UNUSED int argc, char **argv)
{
        char *memory = anonymous(1 << 20);
        struct rlimit now;

        fill(memory, 1 << 20, 9);
        for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
                CALL(setrlimit(limits[i].which, &limits[i].limit));
        if (argv[1][0] == 'n') {
                CALL(setresgid(65534, 65534, 65534));
                CALL(setresuid(65534, 65534, 65534));
        }
        ready_and_wait();
        for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
                CALL(getrlimit(limits[i].which, &now));
                CHECK(memcmp(&now, &limits[i].limit, sizeof(now)) == 0);
        }
        CHECK(filled(memory, 1 << 20, 9));
        pass();
}
