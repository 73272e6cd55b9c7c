/* The areas of steps.c: where they are, what each of their pages holds, and how they come and go.
 * A page is known by its first word. */
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#define NR_AREAS 16UL
#define NR_PAGES 4096UL

struct area {
        volatile char *start; /* NULL: there is none */
        unsigned long pages;  /* with content that is kept account of */
        unsigned long bytes;
        uint64_t holds[NR_PAGES];
        uint64_t original[NR_PAGES]; /* what a page without content of its own reads as */
        int may_vanish;              /* any page may read as zeros */
};

struct span {
        struct area *of;
        unsigned long first;
        unsigned long end;
};

static struct area areas[NR_AREAS];
static uintptr_t changes[2 * NR_PAGES];
static unsigned nr_changed;
static uint64_t stamps;
static pid_t forked;

static volatile uint64_t *at(const struct area *of, unsigned long page)
{
        return (volatile uint64_t *)(of->start + page * PAGE);
}

static void changed(struct area *of, unsigned long page, uint64_t holds)
{
        CHECK(nr_changed < sizeof(changes) / sizeof(*changes));
        changes[nr_changed++] = (uintptr_t)at(of, page);
        of->holds[page] = holds;
}

static void put(struct area *of, unsigned long page)
{
        changed(of, page, ++stamps);
        *at(of, page) = stamps;
}

/* AREA FIRST COUNT */
static struct span span(char **word)
{
        struct area *of = &areas[strtoul(word[0], NULL, 0) % NR_AREAS];
        unsigned long first = strtoul(word[1], NULL, 0), count = strtoul(word[2], NULL, 0);

        CHECK(of->start != NULL && first + count <= of->pages);
        return (struct span){of, first, first + count};
}

static void place(struct area *of, void *start, unsigned long pages)
{
        CHECK(pages <= NR_PAGES && (uintptr_t)start % PAGE == 0);
        of->start = start;
        of->pages = pages;
        of->bytes = pages * PAGE;
        of->may_vanish = 0;
        memset(of->holds, 0, sizeof(of->holds));
        memset(of->original, 0, sizeof(of->original));
}

static void check_area(const struct area *of)
{
        for (unsigned long i = 0; of->start && i < of->pages; i++)
                if (*at(of, i) != of->holds[i] && !(of->may_vanish && !*at(of, i))) {
                        say("page %lu of area %ld holds %#lx, not %#lx\n", i, of - areas,
                            (unsigned long)*at(of, i), (unsigned long)of->holds[i]);
                        _exit(1);
                }
}

/* `ok START-END`, where `of` is, and more of them for what was changed, in order. */
static void answer(const struct area *of)
{
        static char line[60000];
        size_t used = (size_t)snprintf(line, sizeof(line), "ok %lx-%lx", (uintptr_t)of->start,
                                       (uintptr_t)of->start + of->bytes);

        for (unsigned i = 0, next; i < nr_changed; i = next) {
                for (next = i + 1; next < nr_changed && changes[next] == changes[next - 1] + PAGE;)
                        next++;
                used += (size_t)snprintf(line + used, sizeof(line) - used, " %lx-%lx", changes[i],
                                         changes[next - 1] + PAGE);
                CHECK(used < sizeof(line) - 40);
        }
        line[used++] = '\n';
        CHECK(write(1, line, used) == (ssize_t)used);
}

/* What a mapping of this name is made of; a descriptor that the caller closes, or -1. */
static int kind_of(const char *name, unsigned long pages, int *flags, int *prot)
{
        int fd = -1;

        *prot = PROT_READ | PROT_WRITE;
        *flags = strstr(name, "shared") ? MAP_SHARED : MAP_PRIVATE;
        if (strstr(name, "noreserve"))
                *flags |= MAP_NORESERVE;
        if (strstr(name, "none"))
                *prot = PROT_NONE;
        if (strstr(name, "growsdown"))
                *flags |= MAP_GROWSDOWN;
        if (strstr(name, "hugetlb"))
                *flags |= MAP_HUGETLB;
        if (strstr(name, "file"))
                fd = made_file("mapped", pages * PAGE, 7);
        else if (strstr(name, "memfd"))
                CALL(ftruncate(fd = CALL(memfd_create("tracked", MFD_CLOEXEC)),
                               (off_t)(pages * PAGE)));
        else
                *flags |= MAP_ANONYMOUS;
        return fd;
}

/* AREA KIND PAGES [same]: `same` puts it where the area was. Aligned to 2 MiB otherwise. */
static int do_map(char **word)
{
        struct area *of = &areas[strtoul(word[0], NULL, 0) % NR_AREAS];
        unsigned long pages = strtoul(word[2], NULL, 0), huge = 512 * PAGE;
        int flags, prot, fd = kind_of(word[1], pages, &flags, &prot);
        char *start = (char *)of->start;

        if (!word[3]) {
                char *room = CALL(mmap(NULL, pages * PAGE + 2 * huge, PROT_NONE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));

                CALL(munmap(room, pages * PAGE + 2 * huge));
                start = (char *)(((uintptr_t)room + huge) & -huge);
        }
        if (mmap(start, pages * PAGE, prot, flags | MAP_FIXED_NOREPLACE, fd, 0) != start)
                return errno;
        place(of, start, pages > NR_PAGES ? 0 : pages); /* larger ones are only to be there */
        of->bytes = pages * PAGE;
        for (unsigned long i = 0; fd >= 0 && i < pages; i++)
                CHECK(pread(fd, &of->original[i], 8, (off_t)(i * PAGE)) == 8);
        memcpy(of->holds, of->original, sizeof(of->holds));
        if (fd >= 0)
                close(fd);
        return 0;
}

/* All of AREA goes; its place is remembered. */
static int do_unmap(char **word)
{
        struct area *of = &areas[strtoul(word[0], NULL, 0) % NR_AREAS];

        CALL(munmap((void *)of->start, of->pages * PAGE));
        of->pages = 0;
        return 0;
}

/* AREA OTHER: over the place of OTHER, which is unmapped. All its pages have changed there. */
static int do_move(char **word)
{
        struct area *of = &areas[strtoul(word[0], NULL, 0) % NR_AREAS];
        struct area *to = &areas[strtoul(word[1], NULL, 0) % NR_AREAS];
        unsigned long pages = of->pages;

        CALL(mremap((void *)of->start, pages * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                    (void *)to->start));
        place(to, (void *)to->start, pages);
        for (unsigned long i = 0; i < pages; i++)
                changed(to, i, of->holds[i]);
        of->pages = 0;
        return 0;
}

/* AREA PAGES: mremap(2) in place. */
static int do_resize(char **word)
{
        struct area *of = &areas[strtoul(word[0], NULL, 0) % NR_AREAS];
        unsigned long pages = strtoul(word[1], NULL, 0);

        CHECK(pages <= NR_PAGES);
        CALL(mremap((void *)of->start, of->pages * PAGE, pages * PAGE, 0));
        for (unsigned long i = of->pages; i < pages; i++)
                of->holds[i] = of->original[i] = 0;
        of->pages = pages;
        of->bytes = pages * PAGE;
        return 0;
}

/* AREA PAGES: the heap is so much longer, and this area begins where the first such step began. */
static int do_brk(char **word)
{
        struct area *of = &areas[strtoul(word[0], NULL, 0) % NR_AREAS];
        unsigned long pages = strtoul(word[1], NULL, 0);

        if (!of->start) {
                CALL(sbrk((intptr_t)(-(uintptr_t)CALL(sbrk(0)) % PAGE)));
                place(of, CALL(sbrk(0)), 0);
        }
        CHECK(of->pages + pages <= NR_PAGES);
        CALL(sbrk((intptr_t)(pages * PAGE)));
        of->pages += pages;
        of->bytes += pages * PAGE;
        return 0;
}

/* AREA [async]: a userfaultfd of this program's own protects it, and stays. */
static int do_own_uffd(char **word)
{
        struct area *of = &areas[strtoul(word[0], NULL, 0) % NR_AREAS];
        int fd = CALL(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
        struct uffdio_api api = {.api = UFFD_API};
        struct uffdio_register range = {
            .range = {(uintptr_t)of->start, of->pages * PAGE},
            .mode = UFFDIO_REGISTER_MODE_WP,
        };

        if (word[1])
                api.features = 3ULL << 14 | 1; /* POISON, WP_ASYNC, PAGEFAULT_FLAG_WP */
        CALL(ioctl(fd, UFFDIO_API, &api));
        CALL(ioctl(fd, UFFDIO_REGISTER, &range));
        return 0;
}

/* AREA FIRST COUNT */
static int do_swap_out(char **word)
{
        struct span s = span(word);

        CALL(madvise((void *)at(s.of, s.first), (s.end - s.first) * PAGE, 21 /* MADV_PAGEOUT */));
        return 0;
}
