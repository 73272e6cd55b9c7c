/* Memory that changes round by round, for ever, without waiting for anybody; each round is the same
 * whenever it is run. After each one a hash of all of that memory goes into the file `hashes`, at
 * the place of the round, and the number of the round to its beginning. Whoever is restored goes on
 * where it was: it meets the hashes of the one that it was dumped from, and must have the same.
 * Ends with success after the next round when there is a file `stop`. */
#include "victim.h"

#define NR     512UL
#define SHARED 32UL
#define ROUNDS (1UL << 20)

static uint64_t *area, *shared;
static uint64_t hashed[1]; /* of the last round, in .bss */

static uint64_t mix(uint64_t value)
{
        value = (value ^ (value >> 33)) * 0xff51afd7ed558ccd;
        return (value ^ (value >> 33)) * 0xc4ceb9fe1a85ec53;
}

static uint64_t hash_of(const uint64_t *words, uint64_t nr_pages)
{
        uint64_t hash = nr_pages;

        for (uint64_t i = 0; i < nr_pages * PAGE / 8; i++)
                hash = (hash ^ words[i]) * 0x100000001b3 + (hash >> 29);
        return hash;
}

static void stamp(uint64_t *page, uint64_t seed)
{
        for (uint64_t i = 0; i < PAGE / 8; i += 16)
                page[i] = mix(seed + i);
}

static uint64_t *page_of(uint64_t number)
{
        return area + number % NR * PAGE / 8;
}

static void change(uint64_t round)
{
        uint64_t chance = mix(round);
        uint64_t *gone = page_of(chance % (NR - 8));

        for (uint64_t i = 0; i < 8 + chance % 24; i++)
                stamp(page_of(mix(chance + i)), round * 1000 + i);
        stamp(shared + chance % SHARED * PAGE / 8, round);
        if (round % 3 == 0)
                CALL(madvise(gone, 8 * PAGE, MADV_DONTNEED));
        if (round % 5 == 0) {
                CALL(munmap(gone, 8 * PAGE));
                CALL(mmap(gone, 8 * PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
                stamp(gone, round);
        }
}

static void prove(uint64_t round)
{
        int fd = CALL(open(in_folder("hashes"), O_RDWR | O_CLOEXEC));
        uint64_t before = 0;

        hashed[0] = hash_of(area, NR) ^ mix(hash_of(shared, SHARED)) ^ hashed[0] << 1;
        CHECK(pread(fd, &before, 8, (off_t)(round * 8)) == 8);
        if (before && before != hashed[0]) {
                say("round %lu: not what it was\n", round);
                CHECK(!"the memory is that of another instant");
        }
        CHECK(pwrite(fd, hashed, 8, (off_t)(round * 8)) == 8);
        CHECK(pwrite(fd, &round, 8, 0) == 8);
        close(fd);
}

static void *mapped(uint64_t nr_pages, int flags)
{
        return CALL(
            mmap(NULL, nr_pages * PAGE, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0));
}

int main(void)
{
        area = mapped(NR, MAP_PRIVATE);
        shared = mapped(SHARED, MAP_SHARED);
        for (uint64_t page = 0; page < NR / 2; page++)
                stamp(page_of(page), page);
        /* Of one size: a restore compares it. */
        close(CALL(open(in_folder("hashes"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)));
        CALL(truncate(in_folder("hashes"), ROUNDS * 8));
        ready();
        for (uint64_t round = 1;; round++) {
                change(round);
                prove(round);
                if (!access(in_folder("stop"), F_OK))
                        break;
                usleep(1000);
        }
        pass();
}
