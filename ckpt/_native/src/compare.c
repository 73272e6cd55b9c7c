/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE_SIZE = 4096, STEP = 64 * PAGE_SIZE };

/* Two buffers of STEP bytes. */
struct buffers {
        uint8_t *a;
        uint8_t *b;
};

static long fill(int64_t lfd, uint64_t at, uint8_t *to, size_t size)
{
        if (lfd < 0) {
                memset(to, 0, size);
                return 0;
        }
        while (size) {
                ssize_t got = pread((int)lfd, to, size, (off_t)at);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        return got ? -errno : -ENODATA;
                to += got;
                at += (uint64_t)got;
                size -= (size_t)got;
        }
        return 0;
}

static uint64_t differing(const struct buffers *of, size_t size)
{
        uint64_t nr = 0;

        /* Most are equal: one look at all of them. */
        if (!memcmp(of->a, of->b, size))
                return 0;
        for (size_t at = 0; at < size; at += PAGE_SIZE)
                nr += memcmp(of->a + at, of->b + at, PAGE_SIZE) != 0;
        return nr;
}

static long compare(struct ckpt_pair *pair, const struct buffers *of)
{
        uint64_t size = pair->nr_pages * PAGE_SIZE;

        pair->nr_differ = 0;
        for (uint64_t done = 0; done < size;) {
                size_t step = size - done < STEP ? (size_t)(size - done) : STEP;
                long err = fill(pair->lfd_a, pair->at_a + done, of->a, step);

                if (!err)
                        err = fill(pair->lfd_b, pair->at_b + done, of->b, step);
                if (err)
                        return err;
                pair->nr_differ += differing(of, step);
                done += step;
        }
        return 0;
}

long ckpt_compare(struct ckpt_pair *pairs, uint64_t nr, uint64_t *failed)
{
        struct buffers of = {.a = malloc(STEP), .b = malloc(STEP)};
        long err = of.a && of.b ? 0 : -ENOMEM;

        *failed = 0;
        for (uint64_t i = 0; !err && i < nr; i++) {
                *failed = i;
                err = compare(&pairs[i], &of);
        }
        free(of.a);
        free(of.b);
        return err;
}
