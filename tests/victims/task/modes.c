/* Rare modes of prctl(2), of the process and of one thread, and registrations for membarrier(2). */
#include "victim.h"
#include <linux/prctl.h>

enum { MEMORY_MERGE = 67, THP_EXCEPT_ADVISED = 2, REGISTRATIONS = 1 << 9 };

static char *merged, *alone;

/* Do the VmFlags of the mapping at `address` hold `flag`? */
static int flagged(void *address, const char *flag)
{
        char line[512], start[32];
        FILE *smaps = fopen("/proc/self/smaps", "r");
        int here = 0, found = 0;

        CHECK(smaps != NULL);
        snprintf(start, sizeof(start), "%lx-", (unsigned long)address);
        while (fgets(line, sizeof(line), smaps)) {
                if (strchr(line, '-') && !strncmp(line, start, strlen(start)))
                        here = 1;
                if (here && !strncmp(line, "VmFlags:", 8)) {
                        found = strstr(line, flag) != NULL;
                        break;
                }
        }
        fclose(smaps);
        CHECK(here);
        return found;
}

static void *body(void *built)
{
        int tsc;

        CALL(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
        CALL(prctl(PR_SET_TSC, PR_TSC_SIGSEGV));
        pthread_barrier_wait(built);
        wait_for("go");
        CALL(prctl(PR_GET_TSC, &tsc));
        CHECK(tsc == PR_TSC_SIGSEGV);
        CHECK(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) == PR_MCE_KILL_EARLY);
        return NULL;
}

int main(void)
{
        pthread_barrier_t built;
        pthread_t thread;
        int tsc;

        merged = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        alone = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(merged != MAP_FAILED && alone != MAP_FAILED);
        CALL(prctl(MEMORY_MERGE, 1, 0, 0, 0));
        CALL(madvise(alone, PAGE, MADV_UNMERGEABLE));
        int except = prctl(PR_SET_THP_DISABLE, 1, THP_EXCEPT_ADVISED, 0, 0) == 0;
        CALL(syscall(SYS_membarrier, 1 << 4, 0, 0));
        CALL(syscall(SYS_membarrier, 1 << 6, 0, 0));
        long registered = CALL(syscall(SYS_membarrier, REGISTRATIONS, 0, 0));
        CHECK(registered == (1 << 4 | 1 << 6));
        CALL(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_LATE, 0, 0));
        ZERO(pthread_barrier_init(&built, NULL, 2));
        ZERO(pthread_create(&thread, NULL, body, &built));
        pthread_barrier_wait(&built);
        ready_and_wait();
        CHECK(prctl(MEMORY_MERGE + 1, 0, 0, 0, 0) == 1);
        CHECK(flagged(merged, "mg") && !flagged(alone, "mg"));
        CHECK(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == (except ? 3 : 0));
        CHECK(syscall(SYS_membarrier, REGISTRATIONS, 0, 0) == registered);
        CHECK(syscall(SYS_membarrier, 1 << 3, 0, 0) == 0);
        CHECK(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) == PR_MCE_KILL_LATE);
        CALL(prctl(PR_GET_TSC, &tsc));
        CHECK(tsc == PR_TSC_ENABLE);
        ZERO(pthread_join(thread, NULL));
        pass();
}
