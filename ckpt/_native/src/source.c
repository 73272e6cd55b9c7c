/* SPDX-License-Identifier: GPL-2.0-only */
#include "source.h"

#include "xxh3.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

enum { STEP = 256 << 10 };

long lazy_file_open(const struct ckpt_lazy_source *source, struct lazy_file *file)
{
        uint64_t nr = source->sums ? (source->size + source->block - 1) / source->block : 0;
        void *map;

        *file = (struct lazy_file){0};
        if (!source->size)
                return 0;
        map = mmap(NULL, source->size, PROT_READ, MAP_SHARED, source->lfd, 0);
        if (map == MAP_FAILED)
                return -errno;
        file->map = map;
        file->good = calloc(nr + 1, 1);
        if (!file->good)
                return -ENOMEM;
        if (source->sums && source->trusted)
                memcpy(file->good, source->trusted, nr);
        return 0;
}

/* Blocks under test: one for what nobody waits for yet, one for what somebody does. Pages of a
 * block that stays here are taken from here: it is in the cache. */
struct test {
        const struct ckpt_lazy_source *source;
        uint64_t block;
        uint64_t len, done;
        struct xxh3 sum;
        char *buffer;
        uint64_t room;
};

static struct test tests[2];

static int is_of(const struct test *test, const struct ckpt_lazy_source *source, uint64_t block)
{
        return test->source == source && test->block == block;
}

static long begin(struct test *test, const struct ckpt_lazy_source *source, uint64_t block)
{
        uint64_t left = source->size - block * source->block;

        test->source = NULL;
        if (test->room < source->block) {
                free(test->buffer);
                test->room = 0;
                test->buffer = malloc(source->block);
                if (!test->buffer)
                        return -ENOMEM;
                test->room = source->block;
        }
        test->source = source;
        test->block = block;
        test->len = left < source->block ? left : source->block;
        test->done = 0;
        xxh3_begin(&test->sum);
        return 0;
}

/* Some more of the block, by pread(2): to touch the mapping of a file that is cut short would be
 * SIGBUS. 1 when it is good, 0 when there is more of it. */
static long go_on(struct test *test)
{
        const struct ckpt_lazy_source *source = test->source;
        uint64_t upto = test->len - test->done < STEP ? test->len : test->done + STEP;

        while (test->done < upto) {
                ssize_t got = pread(source->lfd, test->buffer + test->done, upto - test->done,
                                    (off_t)(test->block * source->block + test->done));

                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        return got ? -errno : -EFAULT;
                test->done += (uint64_t)got;
                xxh3_more(&test->sum, test->buffer, test->done, test->len);
        }
        if (test->done < test->len)
                return 0;
        return xxh3_end(&test->sum, test->buffer, test->len) == source->sums[test->block]
                   ? 1
                   : -EUCLEAN;
}

/* 1 when it is good; 0 when there is more of it to look at, unless it is `urgent`. */
static long verify(const struct ckpt_lazy_source *source, uint64_t block, int urgent)
{
        struct test *test =
            is_of(&tests[!urgent], source, block) ? &tests[!urgent] : &tests[urgent];
        long result = 0;

        if (!is_of(test, source, block))
                result = begin(test, source, block);
        if (!result)
                result = go_on(test);
        while (!result && urgent)
                result = go_on(test);
        if (result < 0)
                test->source = NULL;
        return result;
}

static const char *place(const struct ckpt_lazy_source *source, const struct lazy_file *file,
                         uint64_t at, uint64_t len)
{
        for (unsigned i = 0; source->sums && i < 2; i++) {
                const struct test *test = &tests[i];
                uint64_t start = test->block * source->block;

                if (is_of(test, source, at / source->block) && test->done == test->len &&
                    at + len <= start + test->len)
                        return test->buffer + (at - start);
        }
        return file->map + at;
}

long lazy_file_pages(const struct ckpt_lazy_source *source, struct lazy_file *file, uint64_t at,
                     uint64_t len, int urgent, const void **pages)
{
        if (at > source->size || len > source->size - at)
                return -ERANGE;
        for (uint64_t i = at / (source->sums ? source->block : 1);
             source->sums && i * source->block < at + len; i++) {
                long result = file->good[i] ? 1 : verify(source, i, urgent);

                if (result <= 0)
                        return result;
                file->good[i] = 1;
        }
        *pages = place(source, file, at, len);
        return 1;
}
