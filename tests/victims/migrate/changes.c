/* Memory of all kinds that changes at "step": pages are written, given back, protected, mapped anew
 * at the same address, moved and grown, while a child keeps what it had. With `fork` a child is
 * born then, with `end` one ends, with `low` there is memory at a low address then. With `policy`
 * memory is wanted of node 0, some of it only from then on, with `pty` there is a pseudo terminal
 * that controls no session. After "go" everything is as it was left, the list of mappings included,
 * and clocks have neither gone back nor leapt. */
#include "victim.h"

#include <linux/mempolicy.h>

#define HOUR 3600L

#define MOST 200

static struct mapping {
        unsigned long start, end;
        char mode[5], name[100];
} before[MOST], after[MOST];

static unsigned char *written, *given, *locked, *anew, *moved, *same, *more;
static struct timespec last[2];
static int terminal[2];

/* Without the stack and the heap, which may grow; neighbours without a name are one. Returns how
 * many there are. */
static int list_mappings(struct mapping *into)
{
        FILE *maps = fopen("/proc/self/maps", "re");
        struct mapping *end = into;
        char line[512];
        int nr = 0;

        CHECK(maps);
        while (fgets(line, sizeof(line), maps)) {
                struct mapping one = {0};

                if (strstr(line, "[stack]") || strstr(line, "[heap]"))
                        continue;
                CHECK(sscanf(line, "%lx-%lx %4s %*s %*s %*s %99s", &one.start, &one.end, one.mode,
                             one.name) >= 3);
                nr++;
                if (end > into && !*one.name && !*end[-1].name && end[-1].end == one.start &&
                    !strcmp(end[-1].mode, one.mode)) {
                        end[-1].end = one.end;
                        continue;
                }
                CHECK(end < into + MOST);
                *end++ = one;
        }
        ZERO(fclose(maps));
        return nr;
}

static void compare_mappings(int nr_before)
{
        int nr_after = list_mappings(after);

        for (int i = 0; i < MOST; i++)
                if (memcmp(&before[i], &after[i], sizeof(before[i]))) {
                        say("was %lx-%lx %s %s\n", before[i].start, before[i].end, before[i].mode,
                            before[i].name);
                        say("is %lx-%lx %s %s\n", after[i].start, after[i].end, after[i].mode,
                            after[i].name);
                        CHECK(!"another mapping");
                }
        CHECK(nr_after <= nr_before);
}

static void look_at_clocks(int first)
{
        static const clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME};

        for (int i = 0; i < 2; i++) {
                struct timespec now;

                CALL(clock_gettime(clocks[i], &now));
                CHECK(first || now.tv_sec >= last[i].tv_sec);
                CHECK(first || now.tv_sec - last[i].tv_sec < HOUR);
                last[i] = now;
        }
}

static void keep(void)
{
        fill(written, 64 * PAGE, 20);
        wait_for("go");
        look_at_clocks(0);
        CHECK(filled(written, 64 * PAGE, 20));
        for (size_t page = 64; page < 1024; page++)
                CHECK(*(uint64_t *)(written + page * PAGE) == page);
        CHECK(filled(given, 256 * PAGE, 2));
        CHECK(filled(anew, 256 * PAGE, 4));
}

static void late_child(void)
{
        wait_for("go");
        look_at_clocks(0);
        CHECK(filled(moved, 128 * PAGE, 5));
        CHECK(filled(more, 256 * PAGE, 7));
}

static void ended_child(void)
{
        wait_for("step");
}

static void use_low_addresses(void)
{
        const size_t size = 64UL << 20;
        void *low = (void *)(1UL << 36);

        CHECK(mmap(low, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1,
                   0) == low);
        fill(low, 16 * PAGE, 8);
}

static void want_node(void *address)
{
        unsigned long first = 1;

        if (address)
                CALL(syscall(SYS_mbind, address, 64 * PAGE, MPOL_BIND, &first, 64, 0));
        else
                CALL(syscall(SYS_set_mempolicy, MPOL_PREFERRED, &first, 64));
}

static int policy_at(void *address)
{
        int mode;

        CALL(syscall(SYS_get_mempolicy, &mode, NULL, 0, address, address ? MPOL_F_ADDR : 0));
        return mode;
}

static void verify_policies(void)
{
        CHECK(policy_at(NULL) == MPOL_PREFERRED);
        CHECK(policy_at(written) == MPOL_BIND);
        CHECK(policy_at(same) == MPOL_BIND);
        CHECK(policy_at(given) == MPOL_DEFAULT);
}

static void open_terminal(void)
{
        const char *slave;

        terminal[0] = CALL(posix_openpt(O_RDWR | O_NOCTTY));
        ZERO(unlockpt(terminal[0]));
        slave = ptsname(terminal[0]);
        CHECK(slave);
        terminal[1] = CALL(open(slave, O_RDWR | O_NOCTTY));
}

static void verify_terminal(void)
{
        char got[6];

        CHECK(write(terminal[0], "hello\n", 6) == 6);
        CHECK(read(terminal[1], got, 6) == 6 && !memcmp(got, "hello\n", 6));
}

static void build(void)
{
        written = anonymous(1024 * PAGE);
        for (size_t page = 0; page < 1024; page++)
                *(uint64_t *)(written + page * PAGE) = page;
        fill(given = anonymous(256 * PAGE), 256 * PAGE, 2);
        fill(locked = anonymous(256 * PAGE), 256 * PAGE, 3);
        fill(anew = anonymous(256 * PAGE), 256 * PAGE, 4);
        fill(moved = anonymous(128 * PAGE), 128 * PAGE, 5);
        fill(same = anonymous(64 * PAGE), 64 * PAGE, 6);
        CALL(mprotect(same, 64 * PAGE, PROT_READ));
}

static void change(void)
{
        for (size_t page = 1; page < 1024; page += 2)
                *(uint64_t *)(written + page * PAGE) = page + 5000;
        CALL(madvise(given + 64 * PAGE, 64 * PAGE, MADV_DONTNEED));
        fill(locked, 16 * PAGE, 13);
        CALL(mprotect(locked, 256 * PAGE, PROT_READ));
        CALL(munmap(anew + 64 * PAGE, 128 * PAGE));
        CHECK(mmap(anew + 64 * PAGE, 128 * PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == anew + 64 * PAGE);
        fill(anew + 64 * PAGE, 32 * PAGE, 14);
        moved = mremap(moved, 128 * PAGE, 512 * PAGE, MREMAP_MAYMOVE);
        CHECK(moved != MAP_FAILED);
        fill(moved + 128 * PAGE, 64 * PAGE, 15);
        fill(more = anonymous(256 * PAGE), 256 * PAGE, 7);
}

static void verify(void)
{
        for (size_t page = 0; page < 1024; page++)
                CHECK(*(uint64_t *)(written + page * PAGE) == page + (page & 1 ? 5000 : 0));
        CHECK(filled(given, 64 * PAGE, 2));
        CHECK(all_zero(given + 64 * PAGE, 64 * PAGE));
        CHECK(filled(locked, 16 * PAGE, 13));
        CHECK(filled(anew, 64 * PAGE, 4));
        CHECK(filled(anew + 64 * PAGE, 32 * PAGE, 14));
        CHECK(all_zero(anew + 96 * PAGE, 96 * PAGE));
        CHECK(filled(moved, 128 * PAGE, 5));
        CHECK(filled(moved + 128 * PAGE, 64 * PAGE, 15));
        CHECK(all_zero(moved + 192 * PAGE, 320 * PAGE));
        CHECK(filled(same, 64 * PAGE, 6));
        CHECK(filled(more, 256 * PAGE, 7));
}

int main(int argc, char **argv)
{
        const char *what = argc > 1 ? argv[1] : "";
        pid_t first, ended = 0, second = 0;
        int nr;

        CALL(mkfifo(in_folder("step"), 0666));
        build();
        if (!strcmp(what, "policy")) {
                want_node(NULL);
                want_node(written);
        }
        if (!strcmp(what, "pty"))
                open_terminal();
        look_at_clocks(1);
        if (!strcmp(what, "end"))
                ended = child(ended_child);
        first = child(keep);
        ready();
        wait_for("step");
        change();
        if (ended)
                join_child(ended);
        if (!strcmp(what, "fork"))
                second = child(late_child);
        if (!strcmp(what, "low"))
                use_low_addresses();
        if (!strcmp(what, "policy"))
                want_node(same);
        look_at_clocks(0);
        nr = list_mappings(before);
        ready();
        wait_for("go");
        look_at_clocks(0);
        verify();
        if (!strcmp(what, "low"))
                CHECK(filled((void *)(1UL << 36), 16 * PAGE, 8));
        if (!strcmp(what, "policy"))
                verify_policies();
        if (!strcmp(what, "pty"))
                verify_terminal();
        compare_mappings(nr);
        join_child(first);
        if (second)
                join_child(second);
        pass();
}
