/* Memory that does what it is told: one line in, one line out. Each answer is `ok`, where the area
 * of the first argument is, and the ranges of pages whose content this step has changed, by this
 * program's own account; or `fail errno`. It knows what each page must hold and checks that at the
 * end. */
#include "victim.h"
#include <sys/uio.h>

#include "areas.h"
#include "churn.h"

/* ---- pages of an area: AREA FIRST COUNT */

static int do_write(char **word)
{
        for (struct span s = span(word); s.first < s.end; s.first++)
                put(s.of, s.first);
        return 0;
}

static int do_read(char **word)
{
        for (struct span s = span(word); s.first < s.end; s.first++)
                CHECK(*at(s.of, s.first) == s.of->holds[s.first]);
        return 0;
}

static void *write_in_thread(void *word)
{
        do_write(word);
        return NULL;
}

static int do_thread(char **word)
{
        ZERO(pthread_join(started_thread(write_in_thread, word), NULL));
        return 0;
}

/* read(2) from a file into the pages. */
static int do_receive(char **word)
{
        struct span s = span(word);
        int fd = made_file("source", (s.end - s.first) * PAGE, ++stamps);
        uint64_t head;

        for (unsigned long i = s.first; i < s.end; i++) {
                CHECK(pread(fd, &head, 8, (off_t)((i - s.first) * PAGE)) == 8);
                changed(s.of, i, head);
        }
        CHECK(read(fd, (char *)at(s.of, s.first), (s.end - s.first) * PAGE) ==
              (ssize_t)((s.end - s.first) * PAGE));
        close(fd);
        return 0;
}

/* Somebody else has put STAMP there. */
static int do_expect(char **word)
{
        struct span s = span(word);

        for (; s.first < s.end; s.first++)
                s.of->holds[s.first] = strtoull(word[3], NULL, 0);
        return 0;
}

static int do_advise(char **word)
{
        static const struct {
                const char *name;
                int advice;
                int zeroes;
        } known[] = {{"dontneed", MADV_DONTNEED, 1}, {"free", MADV_FREE, 0},
                     {"remove", MADV_REMOVE, 1},     {"huge", MADV_HUGEPAGE, 0},
                     {"small", MADV_NOHUGEPAGE, 0},  {"collapse", 25, 0}};
        struct span s = span(word);

        for (unsigned i = 0; i < sizeof(known) / sizeof(*known); i++) {
                if (strcmp(word[3], known[i].name))
                        continue;
                s.of->may_vanish |= known[i].advice == MADV_FREE;
                if (madvise((void *)at(s.of, s.first), (s.end - s.first) * PAGE, known[i].advice))
                        return errno;
                for (; known[i].zeroes && s.first < s.end; s.first++)
                        s.of->holds[s.first] = s.of->original[s.first];
                return 0;
        }
        return EINVAL;
}

static int do_protect(char **word)
{
        struct span s = span(word);
        int prot = (strchr(word[3], 'r') ? PROT_READ : 0) | (strchr(word[3], 'w') ? PROT_WRITE : 0);

        CALL(mprotect((void *)at(s.of, s.first), (s.end - s.first) * PAGE, prot));
        return 0;
}

/* A child writes the pages in its own copy; it goes when it is reaped. */
static int do_fork(char **word)
{
        struct span s = span(word);
        int fds[2];

        CALL(pipe2(fds, O_CLOEXEC));
        forked = CALL(fork());
        if (forked == 0) {
                for (; s.first < s.end; s.first++)
                        put(s.of, s.first);
                tell(fds[1]);
                pause();
        }
        hear(fds[0]);
        close(fds[0]);
        close(fds[1]);
        return 0;
}

static int do_reap(char **word)
{
        (void)word;
        CALL(kill(forked, SIGKILL));
        CHECK(CALL(waitpid(forked, NULL, 0)) == forked);
        return 0;
}

/* ---- the rest */

static int do_exec(char **word)
{
        char *const argv[] = {"steps", "again", NULL};

        (void)word;
        CALL(execve("/proc/self/exe", argv, environ));
        return 0;
}

/* The stack COUNT pages further down than it ever was; they are an area then. */
static int do_stack(char **word)
{
        volatile char *top = (volatile char *)((uintptr_t)__builtin_frame_address(0) & -PAGE);
        unsigned long count = strtoul(word[1], NULL, 0);
        struct area *of = &areas[strtoul(word[0], NULL, 0)];

        place(of, (char *)top - (count + 8) * PAGE, count);
        for (unsigned long i = count; i-- > 0;)
                put(of, i);
        return 0;
}

static int do_quit(char **word)
{
        (void)word;
        for (unsigned i = 0; i < NR_AREAS; i++)
                check_area(&areas[i]);
        say("ok\n");
        pass();
}

static const struct {
        const char *name;
        int (*run)(char **);
} steps[] = {{"write", do_write},       {"read", do_read},     {"thread", do_thread},
             {"receive", do_receive},   {"expect", do_expect}, {"advise", do_advise},
             {"protect", do_protect},   {"fork", do_fork},     {"reap", do_reap},
             {"exec", do_exec},         {"stack", do_stack},   {"quit", do_quit},
             {"map", do_map},           {"unmap", do_unmap},   {"move", do_move},
             {"resize", do_resize},     {"brk", do_brk},       {"own_uffd", do_own_uffd},
             {"swap_out", do_swap_out}, {"churn", do_churn},   {"halt", do_halt}};

static void step(char *line)
{
        char *word[8] = {0}, *rest = line;
        int error = ENOSYS;

        for (int i = 0; i < 7 && (word[i] = strtok_r(i ? NULL : line, " \n", &rest)); i++)
                ;
        CHECK(word[0] != NULL);
        nr_changed = 0;
        for (unsigned i = 0; i < sizeof(steps) / sizeof(*steps); i++)
                if (!strcmp(word[0], steps[i].name))
                        error = steps[i].run(word + 1);
        if (error)
                say("fail %d\n", error);
        else
                answer(&areas[word[1] ? strtoul(word[1], NULL, 0) % NR_AREAS : 0]);
}

int main(int argc, char **argv)
{
        static char line[512];
        ssize_t length;

        if (argc > 1 && !strcmp(argv[1], "nobody")) {
                CALL(setresgid(65534, 65534, 65534));
                CALL(setresuid(65534, 65534, 65534));
                CALL(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
        }
        answer(&areas[0]);
        while ((length = CALL(read(0, line, sizeof(line) - 1))) > 0) {
                line[length] = 0;
                step(line);
        }
        return 1;
}
