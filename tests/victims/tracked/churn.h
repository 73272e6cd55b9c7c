/* A thread of steps.c that changes an area without a pause: writes, gives back, maps anew. */

static struct area *churned;
static pthread_t churner;
static volatile int halted;

static uint64_t dice(void)
{
        static uint64_t state = 88172645463325252ULL;

        state ^= state << 13;
        state ^= state >> 7;
        return state ^= state << 17;
}

static void *churn(UNUSED void *unused)
{
        struct area *of = churned;

        while (!halted) {
                unsigned long page = dice() % of->pages, count = dice() % 16 + 1;
                unsigned long end = page + count < of->pages ? page + count : of->pages;
                unsigned what = dice() % 64;
                size_t bytes = (end - page) * PAGE;
                void *start = (void *)at(of, page);

                if (what == 0)
                        CALL(madvise(start, bytes, MADV_DONTNEED));
                else if (what == 1)
                        CHECK(mmap(start, bytes, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == start);
                for (; what < 2 && page < end; page++)
                        of->holds[page] = 0;
                if (what >= 2)
                        *at(of, page) = of->holds[page] = ++stamps;
        }
        return NULL;
}

static int do_churn(char **word)
{
        churned = &areas[strtoul(word[0], NULL, 0) % NR_AREAS];
        halted = 0;
        churner = started_thread(churn, NULL);
        return 0;
}

static int do_halt(char **word)
{
        (void)word;
        halted = 1;
        ZERO(pthread_join(churner, NULL));
        return 0;
}
