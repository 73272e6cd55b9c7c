// SPDX-License-Identifier: GPL-2.0-only
/*
 * leaver HOW: gives its memory back the moment that it is told to: by a byte in a FIFO, which a
 * script writes while the victim stands. "x": give it back, HOW. "y": check that all is there.
 *
 * UNMAP, FREE, SHRINK, MOVE, REPLACE: munmap(2), MADV_DONTNEED, a smaller mremap(2), one to another
 * place, mmap(2) over it. BRK: the heap. EXEC: another program. EXIT, THREAD: the end, by exit or
 * of thread after thread.
 */
#include "../victim.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SIZE (64UL << 20)

static char *memory;
static const char *how;

static int is(const char *name)
{
        return !strcmp(how, name);
}

static void *end_of_thread(void *argument)
{
        (void)argument;
        return NULL;
}

static void leave(void)
{
        pthread_t thread;

        if (is("UNMAP")) {
                CALL(munmap(memory, SIZE));
        } else if (is("FREE")) {
                CALL(madvise(memory, SIZE, MADV_DONTNEED));
        } else if (is("SHRINK")) {
                CHECK(mremap(memory, SIZE, SIZE / 4, 0) == memory);
        } else if (is("MOVE")) {
                memory = mremap(memory, SIZE, 2 * SIZE, MREMAP_MAYMOVE);
                CHECK(memory != MAP_FAILED);
                memset(memory, 1, SIZE);
        } else if (is("REPLACE")) {
                CHECK(mmap(memory, SIZE, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory);
                memset(memory, 1, SIZE);
        } else if (is("BRK")) {
                CHECK(sbrk(-(intptr_t)SIZE) != (void *)-1);
        } else if (is("EXEC")) {
                CALL(execl("/bin/sleep", "sleep", "1000", NULL));
        } else if (is("EXIT")) {
                _exit(0);
        } else if (is("THREAD")) {
                ZERO(pthread_create(&thread, NULL, end_of_thread, NULL));
                pthread_exit(NULL);
        }
}

int main(int argc, char **argv)
{
        char what;
        int fd;

        how = argc > 1 ? argv[1] : "";
        memory = is("BRK") ? sbrk((intptr_t)SIZE) : anonymous(SIZE);
        fill(memory, SIZE, 7);
        CALL(mkfifo(in_folder("told"), 0600));
        fd = CALL(open(in_folder("told"), O_RDWR | O_CLOEXEC));
        ready();
        for (;;) {
                CHECK(CALL(read(fd, &what, 1)) == 1);
                if (what == 'y')
                        break;
                leave();
        }
        CHECK(filled(memory, SIZE, 7));
        pass();
}
