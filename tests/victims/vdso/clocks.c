// args: libc
// args: alone
/* Calls the functions of the vdso, by addresses that it looks up where it was told of it, and only
 * when it is to call them; with `libc` also those that libc has known from the start, and nothing
 * may be made executable any more (MDWE). In threads and children; each answer is one between two
 * answers of the system call. */
#include "victim.h"
#include <elf.h>
#include <link.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/time.h>

static int with_libc;

static void *function(const char *name)
{
        char *base = (char *)getauxval(AT_SYSINFO_EHDR);
        Elf64_Ehdr *head = (void *)base;
        Elf64_Phdr *segments = (void *)(base + head->e_phoff);
        Elf64_Dyn *dynamic = NULL;
        Elf64_Sym *symbols = NULL;
        const char *strings = NULL;
        Elf64_Word *hash = NULL;

        CHECK(!memcmp(base, ELFMAG, SELFMAG));
        for (int i = 0; i < head->e_phnum; i++)
                if (segments[i].p_type == PT_DYNAMIC)
                        dynamic = (void *)(base + segments[i].p_offset);
        CHECK(dynamic);
        for (; dynamic->d_tag != DT_NULL; dynamic++) {
                char *at = base + dynamic->d_un.d_ptr;

                if (dynamic->d_tag == DT_SYMTAB)
                        symbols = (void *)at;
                else if (dynamic->d_tag == DT_STRTAB)
                        strings = at;
                else if (dynamic->d_tag == DT_HASH)
                        hash = (void *)at;
        }
        CHECK(symbols && strings && hash);
        for (Elf64_Word i = 0; i < hash[1]; i++)
                if (!strcmp(strings + symbols[i].st_name, name))
                        return base + symbols[i].st_value;
        CHECK(!"there is no such function");
        return NULL;
}

static int64_t ns(struct timespec t)
{
        return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int64_t asked(clockid_t clock)
{
        struct timespec t;

        CALL(syscall(SYS_clock_gettime, clock, &t));
        return ns(t);
}

static void check_clocks(int (*get)(clockid_t, struct timespec *))
{
        static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME,
                                           CLOCK_MONOTONIC_COARSE, CLOCK_PROCESS_CPUTIME_ID};

        for (int i = 0; i < 5; i++) {
                struct timespec t;
                int64_t before = asked(clocks[i]);

                CHECK(get(clocks[i], &t) == 0);
                CHECK(before <= ns(t) && ns(t) <= asked(clocks[i]));
        }
}

static void check_time(int (*now_of_day)(struct timeval *, void *), time_t (*now)(time_t *))
{
        struct timeval t;
        int64_t before = asked(CLOCK_REALTIME) / 1000;

        CHECK(now_of_day(&t, NULL) == 0);
        CHECK(before <= t.tv_sec * 1000000LL + t.tv_usec);
        CHECK(t.tv_sec * 1000000LL + t.tv_usec <= asked(CLOCK_REALTIME) / 1000);
        /* That of the last tick. */
        before = asked(CLOCK_REALTIME_COARSE) / 1000000000;
        time_t seconds = now(NULL);
        CHECK(before <= seconds && seconds <= asked(CLOCK_REALTIME_COARSE) / 1000000000);
}

static void check_all(void)
{
        unsigned int (*cpu_of)(unsigned int *, unsigned int *, void *) = function("__vdso_getcpu");
        int (*resolution)(clockid_t, struct timespec *) = function("__vdso_clock_getres");
        struct timespec known, told;
        cpu_set_t set;
        unsigned int cpu, node;

        check_clocks(function("__vdso_clock_gettime"));
        check_time(function("__vdso_gettimeofday"), function("__vdso_time"));
        CALL(syscall(SYS_clock_getres, CLOCK_MONOTONIC_COARSE, &known));
        CHECK(resolution(CLOCK_MONOTONIC_COARSE, &told) == 0 && ns(told) == ns(known));
        CALL(sched_getaffinity(0, sizeof(set), &set));
        CHECK(cpu_of(&cpu, &node, NULL) == 0 && CPU_ISSET(cpu, &set));
        if (!with_libc)
                return;
        check_clocks(clock_gettime);
        check_time((void *)gettimeofday, time);
        CHECK((cpu = sched_getcpu()) < CPU_SETSIZE && CPU_ISSET(cpu, &set));
}

static void *in_thread(void *unused)
{
        wait_for("go");
        check_all();
        return unused;
}

static void in_child(void)
{
        wait_for("go");
        check_all();
}

int main(int argc, char **argv)
{
        with_libc = argc > 1 && !strcmp(argv[1], "libc");
        if (with_libc)
                CALL(prctl(65, 1, 0, 0, 0)); /* PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN */
        pthread_t thread = started_thread(in_thread, NULL);
        pid_t pid = child(in_child);

        ready_and_wait();
        check_all();
        join_child(pid);
        ZERO(pthread_join(thread, NULL));
        pass();
}
