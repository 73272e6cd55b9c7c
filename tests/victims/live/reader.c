// SPDX-License-Identifier: GPL-2.0-only
// needs: cap_setuid
/*
 * The kernel writes into memory that is protected, for a process that is not root: reads of a file
 * into buffers all over, each of them whole. A book says which part of the file is where.
 */
#include "../victim.h"

#include <grp.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#define NR_BLOCKS 256
#define BLOCK     (16 * 4096)
#define NR_PARTS  64
#define NOBODY    65534

static char *memory;
static char *file;
static _Atomic int part_of[NR_BLOCKS]; /* -1: being read */
static atomic_int stopping;
static int fd;

static void read_some(int block, int part)
{
        off_t at = (off_t)part * BLOCK;
        char *to = memory + (size_t)block * BLOCK;
        struct iovec halves[2] = {{to, BLOCK / 2}, {to + BLOCK / 2, BLOCK / 2}};

        part_of[block] = -1;
        if (part % 2)
                CHECK(pread(fd, to, BLOCK, at) == BLOCK);
        else
                CHECK(preadv(fd, halves, 2, at) == BLOCK);
        part_of[block] = part;
}

static void *read_all_the_time(void *argument)
{
        uint64_t state = 1;

        (void)argument;
        while (!atomic_load(&stopping)) {
                state = state * 6364136223846793005ULL + 1442695040888963407ULL;
                read_some((int)(state >> 40) % NR_BLOCKS, (int)(state >> 33) % NR_PARTS);
        }
        return NULL;
}

int main(void)
{
        pthread_t thread;

        fd = made_file("file", NR_PARTS * BLOCK, 3);
        CALL(setgroups(0, NULL));
        CALL(setresgid(NOBODY, NOBODY, NOBODY));
        CALL(setresuid(NOBODY, NOBODY, NOBODY));
        file = mmap(NULL, NR_PARTS * BLOCK, PROT_READ, MAP_PRIVATE, fd, 0);
        CHECK(file != MAP_FAILED);
        memory = anonymous((size_t)NR_BLOCKS * BLOCK);
        for (int i = 0; i < NR_BLOCKS; i++)
                read_some(i, i % NR_PARTS);
        thread = started_thread(read_all_the_time, NULL);
        ready_and_wait();
        atomic_store(&stopping, 1);
        ZERO(pthread_join(thread, NULL));
        for (int i = 0; i < NR_BLOCKS; i++) {
                CHECK(part_of[i] >= 0);
                CHECK(
                    !memcmp(memory + (size_t)i * BLOCK, file + (size_t)part_of[i] * BLOCK, BLOCK));
        }
        pass();
}
