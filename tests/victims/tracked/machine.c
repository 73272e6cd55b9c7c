/*
 * An interpreter of commands that change an address space. Each process of the tree has a number N,
 * and waits in open(2) of the FIFO cmd.N for a line; what the command gave is written to done.N, as
 * a decimal number, negative for an errno. Between two commands nothing is held open, so the tree
 * can be dumped at any of them. It never ends by itself: whoever compares its memory ends it.
 *
 *     call NR A B C D E F           a system call with these numbers, all hexadecimal
 *     map ADDR BYTES PROT FLAGS AT  mmap(2) of the file `data`, which is closed at once
 *     load ADDR PAGES AT            read(2) from page AT of `data` to ADDR
 *     fill ADDR PAGES STEP WORD     page i * STEP is written with the word WORD + i all over
 *     tfill ADDR PAGES STEP WORD    the same by a second thread, which lives from then on
 *     touch ADDR PAGES              a byte of each page is read
 *     brk BYTES                     sbrk(3); gives where the break was
 *     fork N                        a child with the number N
 *     exec                          this program anew, with the same number
 *     exit
 */
#include "victim.h"

#define WORDS 8

static long number;
static struct {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        int lives, asked;
        uint64_t words[WORDS];
} worker = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static const char *fifo(const char *kind)
{
        static char path[520];

        snprintf(path, sizeof(path), "%s.%ld", in_folder(kind), number);
        return path;
}

static void answer(long value)
{
        char text[32];
        int fd = CALL(open(fifo("done"), O_WRONLY | O_CLOEXEC));
        int length = snprintf(text, sizeof(text), "%ld\n", value);

        CHECK(write(fd, text, length) == length);
        close(fd);
}

/* The whole line, up to the end of what is in the FIFO: then the other side has let go of it. */
static void hear_line(char *line, size_t size)
{
        int fd = CALL(open(fifo("cmd"), O_RDONLY | O_CLOEXEC));
        size_t length = 0;
        ssize_t got;

        while ((got = CALL(read(fd, line + length, size - 1 - length))) > 0)
                length += got;
        line[length] = 0;
        close(fd);
}

static void fill_pages(const uint64_t *w)
{
        for (uint64_t i = 0; i < w[1]; i++) {
                volatile uint64_t *page = (void *)(w[0] + i * w[2] * PAGE);

                for (size_t k = 0; k < PAGE / 8; k++)
                        page[k] = w[3] + i;
        }
}

static void *work(void *nothing)
{
        pthread_mutex_lock(&worker.lock);
        for (;;) {
                while (!worker.asked)
                        pthread_cond_wait(&worker.changed, &worker.lock);
                fill_pages(worker.words);
                worker.asked = 0;
                pthread_cond_broadcast(&worker.changed);
        }
        return nothing;
}

static long fill_by_thread(const uint64_t *w)
{
        if (!worker.lives)
                started_thread(work, NULL);
        worker.lives = 1;
        pthread_mutex_lock(&worker.lock);
        memcpy(worker.words, w, sizeof(worker.words));
        worker.asked = 1;
        pthread_cond_broadcast(&worker.changed);
        while (worker.asked)
                pthread_cond_wait(&worker.changed, &worker.lock);
        pthread_mutex_unlock(&worker.lock);
        return 0;
}

static long map_file(const uint64_t *w)
{
        int fd = CALL(open(in_folder("data"), O_RDONLY | O_CLOEXEC));
        void *at = mmap((void *)w[0], w[1], (int)w[2], (int)w[3], fd, (off_t)w[4]);
        long result = at == MAP_FAILED ? -errno : (long)at;

        close(fd);
        return result;
}

static long load(const uint64_t *w)
{
        int fd = CALL(open(in_folder("data"), O_RDONLY | O_CLOEXEC));
        ssize_t got = pread(fd, (void *)w[0], w[1] * PAGE, (off_t)(w[2] * PAGE));
        long result = got < 0 ? -errno : got;

        close(fd);
        return result;
}

static long any_call(const uint64_t *w)
{
        long result = syscall((long)w[0], w[1], w[2], w[3], w[4], w[5], w[6]);

        return result == -1 ? -errno : result;
}

static long touch(const uint64_t *w)
{
        for (uint64_t i = 0; i < w[1]; i++)
                (void)*(volatile char *)(w[0] + i * PAGE);
        return 0;
}

static long grow(const uint64_t *w)
{
        return (long)CALL(sbrk((intptr_t)w[0]));
}

static long born(const uint64_t *w)
{
        pid_t pid = CALL(fork());

        if (pid)
                return pid;
        number = (long)w[0];
        /* The thread stayed with the parent, where nobody holds the lock while main() is here. */
        memset(&worker, 0, sizeof(worker));
        ZERO(pthread_mutex_init(&worker.lock, NULL));
        ZERO(pthread_cond_init(&worker.changed, NULL));
        return 0;
}

static long fill_here(const uint64_t *w)
{
        fill_pages(w);
        return 0;
}

static long become_new(const uint64_t *w UNUSED)
{
        char text[24];
        char *arguments[] = {"machine", text, NULL};

        snprintf(text, sizeof(text), "%ld", number);
        execv("/proc/self/exe", arguments);
        return -errno;
}

static long leave(const uint64_t *w UNUSED)
{
        _exit(0);
}

static const struct {
        const char *name;
        long (*run)(const uint64_t *words);
} commands[] = {
    {"call", any_call},        {"map", map_file}, {"load", load}, {"fill", fill_here},
    {"tfill", fill_by_thread}, {"touch", touch},  {"brk", grow},  {"fork", born},
    {"exec", become_new},      {"exit", leave},
};

static long execute(char *line)
{
        uint64_t words[WORDS] = {0};
        char *at = line;
        const char *name = strsep(&at, " \n");

        for (int i = 0; i < WORDS && at && *at; i++)
                words[i] = strtoull(at, &at, 16);
        for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
                if (strcmp(commands[i].name, name) == 0)
                        return commands[i].run(words);
        errno = EINVAL;
        fail(__FILE__, __LINE__, name);
}

int main(int argc, char **argv)
{
        char line[256];

        /* From here on the break is at a page, and grows only where it is told to. */
        free(malloc(1));
        CALL(sbrk((intptr_t)(-(uintptr_t)sbrk(0) % PAGE)));
        if (argc > 1) {
                number = strtol(argv[1], NULL, 10);
                answer(0);
        } else {
                ready_and_wait();
        }
        for (;;) {
                hear_line(line, sizeof(line));
                answer(execute(line));
        }
}
