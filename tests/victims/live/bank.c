// SPDX-License-Identifier: GPL-2.0-only
/*
 * bank PLAIN|MEMFD|WRITE|BEAR|PUNCH: processes move money between accounts that are spread over
 * shared memory, and none may be made or lost. Any image that is not of one instant breaks the sum,
 * or a count.
 *
 * PLAIN: shared anonymous memory. MEMFD: a memfd that is mapped, and open nowhere. WRITE: it is
 * open, and the tellers write to it with pwrite(2) as well, which no protection of memory sees.
 * BEAR: they have children all the time, who move some money and end. PUNCH: one more process gives
 * pages back (MADV_REMOVE) and fills them anew, checked by what another word of the bank says.
 *
 * The memory is visibly younger than the first process: that tells whoever is older than both has
 * nothing to do with it.
 *
 * On "go" all processes stop, and everything is checked. They end with their parent.
 */
#include "../victim.h"

#include <stdatomic.h>

#define NR_ACCOUNTS 4096
#define NR_TELLERS  3
#define NR_BLOCKS   32
#define BLOCK       (16 * 4096)
#define BEGIN       1000

struct account {
        pthread_mutex_t lock;
        int64_t balance;
        uint64_t nr_moves;
        char rest[4096 - sizeof(pthread_mutex_t) - 16];
};

struct bank {
        atomic_int stopping;
        uint64_t seeds[NR_BLOCKS]; /* of what the block is filled with; 0: it is empty */
        _Alignas(4096) uint64_t moves[NR_TELLERS][512];
        struct account accounts[NR_ACCOUNTS];
        _Alignas(4096) char blocks[NR_BLOCKS][BLOCK];
        char untouched[16 << 20]; /* no page of it is ever there */
};

static struct bank *bank;
static int fd = -1;
static int bears;

static uint64_t draw(uint64_t *state)
{
        *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
        return *state >> 33;
}

static void add(struct account *to, int64_t amount)
{
        int64_t balance = to->balance + amount;
        off_t at = (char *)&to->balance - (char *)bank;

        if (fd < 0)
                to->balance = balance;
        else
                CHECK(pwrite(fd, &balance, sizeof(balance), at) == sizeof(balance));
        to->nr_moves++;
}

static void move_once(uint64_t *count, uint64_t *state)
{
        uint64_t one = draw(state) % NR_ACCOUNTS, other = draw(state) % NR_ACCOUNTS;
        struct account *from = &bank->accounts[one], *to = &bank->accounts[other];
        int64_t amount = (int64_t)(draw(state) % 100);

        if (one == other)
                return;
        ZERO(pthread_mutex_lock(one < other ? &from->lock : &to->lock));
        ZERO(pthread_mutex_lock(one < other ? &to->lock : &from->lock));
        add(from, -amount);
        __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
        add(to, amount);
        ZERO(pthread_mutex_unlock(&from->lock));
        ZERO(pthread_mutex_unlock(&to->lock));
}

static void work(int number)
{
        uint64_t state = (uint64_t)number + 1;

        while (!atomic_load_explicit(&bank->stopping, memory_order_relaxed)) {
                pid_t pid = bears && draw(&state) % 64 == 0 ? CALL(fork()) : -1;

                for (int i = 0; i < 20; i++)
                        move_once(bank->moves[number], &state);
                if (!pid)
                        _exit(0);
                if (pid > 0)
                        join_child(pid);
        }
}

static void punch(void)
{
        uint64_t state = 7, nr = 0;

        while (!atomic_load_explicit(&bank->stopping, memory_order_relaxed)) {
                uint64_t i = draw(&state) % NR_BLOCKS;

                if (bank->seeds[i]) {
                        CHECK(filled(bank->blocks[i], BLOCK, bank->seeds[i]));
                        bank->seeds[i] = 0;
                        CALL(madvise(bank->blocks[i], BLOCK, MADV_REMOVE));
                        CHECK(all_zero(bank->blocks[i], BLOCK));
                } else {
                        fill(bank->blocks[i], BLOCK, ++nr);
                        bank->seeds[i] = nr;
                }
        }
}

static pid_t started(void (*body)(int), int number)
{
        pid_t parent = getpid(), pid = CALL(fork());

        if (pid)
                return pid;
        CALL(prctl(PR_SET_PDEATHSIG, SIGKILL));
        CHECK(getppid() == parent);
        body(number);
        _exit(0);
}

static void begin_punching(int number)
{
        (void)number;
        punch();
}

/* Two ticks of the clock that starts of processes are told by. */
static void grow_old(void)
{
        struct timespec then, now;

        CALL(clock_gettime(CLOCK_MONOTONIC, &then));
        do
                CALL(clock_gettime(CLOCK_MONOTONIC, &now));
        while ((now.tv_sec - then.tv_sec) * 1000000000LL + now.tv_nsec - then.tv_nsec < 20000000);
}

static void check(void)
{
        int64_t sum = 0;
        uint64_t counted = 0, moved = 0;

        for (int i = 0; i < NR_ACCOUNTS; i++) {
                sum += bank->accounts[i].balance;
                counted += bank->accounts[i].nr_moves;
        }
        for (int i = 0; i < NR_TELLERS; i++)
                moved += bank->moves[i][0];
        CHECK(sum == (int64_t)NR_ACCOUNTS * BEGIN);
        CHECK(counted == 2 * moved);
        for (int i = 0; i < NR_BLOCKS; i++)
                CHECK(!bank->seeds[i] || filled(bank->blocks[i], BLOCK, bank->seeds[i]));
        CHECK(all_zero(bank->untouched, 4096));
}

int main(int argc, char **argv)
{
        const char *how = argc > 1 ? argv[1] : "PLAIN";
        int flags = MAP_SHARED, writes = !strcmp(how, "WRITE");
        pid_t pids[NR_TELLERS + 1];
        pthread_mutexattr_t shared;
        int nr = 0;

        bears = !strcmp(how, "BEAR");
        grow_old();
        if (writes || !strcmp(how, "MEMFD")) {
                fd = CALL(memfd_create("bank", MFD_CLOEXEC));
                CALL(ftruncate(fd, sizeof(*bank)));
        } else {
                flags |= MAP_ANONYMOUS;
        }
        bank = mmap(NULL, sizeof(*bank), PROT_READ | PROT_WRITE, flags, fd, 0);
        CHECK(bank != MAP_FAILED);
        if (fd >= 0 && !writes) {
                close(fd);
                fd = -1;
        }
        ZERO(pthread_mutexattr_init(&shared));
        ZERO(pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED));
        for (int i = 0; i < NR_ACCOUNTS; i++) {
                ZERO(pthread_mutex_init(&bank->accounts[i].lock, &shared));
                bank->accounts[i].balance = BEGIN;
        }
        while (nr < NR_TELLERS) {
                pids[nr] = started(work, nr);
                nr++;
        }
        if (!strcmp(how, "PUNCH"))
                pids[nr++] = started(begin_punching, 0);
        ready_and_wait();
        atomic_store(&bank->stopping, 1);
        for (int i = 0; i < nr; i++)
                join_child(pids[i]);
        check();
        pass();
}
