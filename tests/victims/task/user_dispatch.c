// args: range
// args: elsewhere
// args: busy
/* Calls that go to a handler: of all places but its way back, of one place only; asleep in a call
 * that the handler makes, or computing, with a call now and then. */
#include "dispatched.h"

#define NR_COMPUTED 300000

static const char *kind;
static volatile int over;
static pid_t tids[2];
static pthread_barrier_t built;

static int is(const char *name)
{
        return !strcmp(kind, name);
}

static void from_range(void)
{
        dispatch(DISPATCH_FROM_RANGE, restorer, restorer_end);
}

static void from_elsewhere(void)
{
        dispatch(DISPATCH_FROM_ELSEWHERE, bare_call, bare_call_end);
}

/* It still is who it was: calls from where they were handled are, no others. */
static void prove(long nr_before)
{
        CHECK(nr_handled == nr_before);
        CHECK(bare(SYS_getppid, NULL, 0) == MARK + getppid() % MARK);
        CHECK(nr_handled == nr_before + (is("elsewhere") ? 1 : 2));
        CHECK(bare(SYS_close, (void *)12345, 0) == -EBADF);
        CHECK(nr_handled == nr_before + (is("elsewhere") ? 2 : 3));
}

static void *sleeper(void *tid)
{
        const char *go = in_folder("go");

        *(pid_t *)tid = tid_of_caller();
        (is("elsewhere") ? from_elsewhere : from_range)();
        pthread_barrier_wait(&built);
        long before = nr_handled;
        long fd = bare(SYS_open, go, O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0);
        CHECK(bare(SYS_close, (void *)fd, 0) == 0);
        prove(before + 2);
        dispatch_no_more();
        return NULL;
}

static void *computer(UNUSED void *unused)
{
        volatile uint64_t state = 1, shadow = 1;

        from_range();
        pthread_barrier_wait(&built);
        long before = nr_handled, nr = 0;
        while (!over) {
                for (int i = 0; i < NR_COMPUTED; i++)
                        state = pattern(state, 1);
                for (int i = 0; i < NR_COMPUTED; i++)
                        shadow = pattern(shadow, 1);
                CHECK(state == shadow);
                CHECK(bare(SYS_getppid, NULL, 0) > MARK - 1);
                nr++;
        }
        prove(before + nr);
        dispatch_no_more();
        return NULL;
}

int main(UNUSED int argc, char **argv)
{
        pthread_t threads[2];

        kind = argv[1];
        install_handler();
        ZERO(pthread_barrier_init(&built, NULL, 3));
        for (int i = 0; i < 2; i++)
                ZERO(pthread_create(&threads[i], NULL, is("busy") && i ? computer : sleeper,
                                    &tids[i]));
        pthread_barrier_wait(&built);
        for (int i = 0; i < 2; i++)
                if (tids[i])
                        until_blocked(tids[i]);
        from_range();
        ready_and_wait();
        over = 1;
        dispatch_no_more();
        for (int i = 0; i < 2; i++)
                ZERO(pthread_join(threads[i], NULL));
        pass();
}
