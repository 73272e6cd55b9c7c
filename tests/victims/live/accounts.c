// SPDX-License-Identifier: GPL-2.0-only
/*
 * accounts [KEEP|FREE]: money moves between accounts that are spread over thousands of pages, and
 * none may be made or lost. Any image that is not of one instant breaks the sum, or a count.
 *
 * Movers: each takes two accounts' locks, moves an amount, counts the move in both and in itself.
 * Reusers: each fills blocks of memory with a pattern, checks one and gives its pages back in turn:
 * MADV_DONTNEED, or with FREE also munmap(2), mremap(2) and brk-like trimming by free(3).
 *
 * On "go" all threads stop, and everything is checked.
 */
#include "../victim.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define NR_ACCOUNTS 4096
#define NR_MOVERS   2
#define NR_REUSERS  2
#define NR_BLOCKS   16
#define BLOCK       (48 * 4096)
#define BEGIN       1000

struct account {
        pthread_mutex_t lock;
        int64_t balance;
        uint64_t nr_moves;
        char rest[4096 - sizeof(pthread_mutex_t) - 16];
};

struct block {
        char *at;
        uint64_t seed; /* 0: empty */
};

struct reuser {
        struct block blocks[NR_BLOCKS];
        uint64_t seed;
        uint64_t nr;
};

static struct account *accounts;
static uint64_t moves[NR_MOVERS][512];
static struct reuser reusers[NR_REUSERS];
static int frees;
static atomic_int stopping;

static uint64_t draw(uint64_t *state)
{
        *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
        return *state >> 33;
}

static void *move(void *argument)
{
        uint64_t *count = argument, state = (uintptr_t)argument;

        while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
                uint64_t from = draw(&state) % NR_ACCOUNTS, to = draw(&state) % NR_ACCOUNTS;
                int64_t amount = (int64_t)(draw(&state) % 100);

                if (from == to)
                        continue;
                pthread_mutex_lock(&accounts[from < to ? from : to].lock);
                pthread_mutex_lock(&accounts[from < to ? to : from].lock);
                accounts[from].balance -= amount;
                accounts[from].nr_moves++;
                ++*count;
                accounts[to].balance += amount;
                accounts[to].nr_moves++;
                pthread_mutex_unlock(&accounts[from].lock);
                pthread_mutex_unlock(&accounts[to].lock);
        }
        return NULL;
}

static void give_back(struct block *block, uint64_t how)
{
        if (how == 0 || !frees) {
                CALL(madvise(block->at, BLOCK, MADV_DONTNEED));
        } else if (how == 1) {
                CALL(munmap(block->at, BLOCK));
                block->at = anonymous(BLOCK);
        } else {
                block->at = mremap(block->at, BLOCK, BLOCK / 2, 0);
                CHECK(block->at != MAP_FAILED);
                block->at = mremap(block->at, BLOCK / 2, BLOCK, MREMAP_MAYMOVE);
                CHECK(block->at != MAP_FAILED);
        }
        block->seed = 0;
}

static void *reuse(void *argument)
{
        struct reuser *me = argument;

        while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
                struct block *block = &me->blocks[draw(&me->seed) % NR_BLOCKS];
                uint64_t size = 4096 + draw(&me->seed) % 8 * 4096;
                void *scratch;

                if (block->seed) {
                        CHECK(filled(block->at, BLOCK, block->seed));
                        give_back(block, draw(&me->seed) % 3);
                }
                block->seed = ++me->nr;
                fill(block->at, BLOCK, block->seed);
                scratch = malloc(frees ? 64 * size : size);
                memset(scratch, 1, size);
                free(scratch);
        }
        return NULL;
}

static void check_accounts(void)
{
        int64_t sum = 0;
        uint64_t counted = 0, moved = 0;

        for (int i = 0; i < NR_ACCOUNTS; i++) {
                sum += accounts[i].balance;
                counted += accounts[i].nr_moves;
        }
        for (int i = 0; i < NR_MOVERS; i++)
                moved += moves[i][0];
        CHECK(sum == (int64_t)NR_ACCOUNTS * BEGIN);
        CHECK(counted == 2 * moved);
}

static void check_blocks(void)
{
        for (int i = 0; i < NR_REUSERS; i++)
                for (int k = 0; k < NR_BLOCKS; k++) {
                        struct block *block = &reusers[i].blocks[k];

                        CHECK(!block->seed || filled(block->at, BLOCK, block->seed));
                }
}

int main(int argc, char **argv)
{
        pthread_t threads[NR_MOVERS + NR_REUSERS];

        frees = argc > 1 && !strcmp(argv[1], "FREE");
        accounts = anonymous(NR_ACCOUNTS * sizeof(*accounts));
        for (int i = 0; i < NR_ACCOUNTS; i++) {
                ZERO(pthread_mutex_init(&accounts[i].lock, NULL));
                accounts[i].balance = BEGIN;
        }
        for (int i = 0; i < NR_REUSERS; i++)
                for (int k = 0; k < NR_BLOCKS; k++)
                        reusers[i].blocks[k].at = anonymous(BLOCK);
        for (int i = 0; i < NR_MOVERS; i++)
                threads[i] = started_thread(move, moves[i]);
        for (int i = 0; i < NR_REUSERS; i++)
                threads[NR_MOVERS + i] = started_thread(reuse, &reusers[i]);
        ready_and_wait();
        atomic_store(&stopping, 1);
        for (int i = 0; i < NR_MOVERS + NR_REUSERS; i++)
                ZERO(pthread_join(threads[i], NULL));
        check_accounts();
        check_blocks();
        pass();
}
