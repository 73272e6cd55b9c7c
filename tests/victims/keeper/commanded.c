// Writes the pages that standard input tells, keeps its own record of them, and answers each
// command with a line: "w N" write page N, "f" fork, "v" bear a child in the same memory, "x" exec
// itself, "q" compare all pages with the record and end.
#include "victim.h"

#include <sched.h>

#define NR_PAGES 64

static char *memory;
static uint64_t record[NR_PAGES], clock_;

static void put(unsigned page)
{
        CHECK(page < NR_PAGES);
        record[page] = ++clock_;
        fill(memory + page * PAGE, PAGE, record[page]);
}

__attribute__((noreturn)) static int wait_for_end(void *nothing)
{
        (void)nothing;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
                pause();
}

static pid_t bear(int flags)
{
        static char stack[65536] __attribute__((aligned(16)));

        return CALL(clone(wait_for_end, stack + sizeof(stack), flags | SIGCHLD, NULL));
}

static char command(unsigned *page)
{
        char line[32] = "";
        size_t length = 0;

        do
                CHECK(CALL(read(0, line + length, 1)) == 1 && length < sizeof(line) - 2);
        while (line[length++] != '\n');
        *page = (unsigned)atoi(line + 1);
        return line[0];
}

int main(int argc, char **argv)
{
        unsigned page;

        (void)argc;
        memory = anonymous(NR_PAGES * PAGE);
        for (page = 0; page < NR_PAGES; page += 2)
                put(page);
        say("ready %lx\n", (unsigned long)memory);
        for (;;) {
                switch (command(&page)) {
                case 'w':
                        put(page);
                        say("written\n");
                        break;
                case 'f':
                        say("%d\n", bear(0));
                        break;
                case 'v':
                        say("%d\n", bear(CLONE_VM));
                        break;
                case 'x':
                        execv("/proc/self/exe", argv);
                        CHECK(!"exec");
                        break;
                case 'q':
                        for (page = 0; page < NR_PAGES; page++)
                                CHECK(record[page]
                                          ? filled(memory + page * PAGE, PAGE, record[page])
                                          : all_zero(memory + page * PAGE, PAGE));
                        pass();
                default:
                        CHECK(!"a command");
                }
        }
}
