/* SPDX-License-Identifier: GPL-2.0-only */
#include "source.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

enum { STRIDE = 1 << 18 };

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

/* The block by pread(2): to touch the mapping of a file that is cut short would be SIGBUS. */
static long verify(const struct ckpt_lazy_source *source, uint64_t block)
{
        static char *buffer;
        static uint64_t room;
        uint64_t start = block * source->block, len = source->block, done = 0;

        if (len > source->size - start)
                len = source->size - start;
        if (room < len) {
                free(buffer);
                buffer = malloc(len);
                room = buffer ? len : 0;
        }
        if (!buffer)
                return -ENOMEM;
        while (done < len) {
                ssize_t got = pread(source->lfd, buffer + done, len - done, (off_t)(start + done));

                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        return got ? -errno : -EFAULT;
                done += (uint64_t)got;
        }
        return ckpt_xxh3(buffer, len) == source->sums[block] ? 0 : -EUCLEAN;
}

long lazy_file_pages(const struct ckpt_lazy_source *source, struct lazy_file *file, uint64_t at,
                     uint64_t len, const void **pages)
{
        if (at > source->size || len > source->size - at)
                return -ERANGE;
        for (uint64_t i = at / (source->sums ? source->block : 1);
             source->sums && i * source->block < at + len; i++) {
                long err = file->good[i] ? 0 : verify(source, i);

                if (err)
                        return err;
                file->good[i] = 1;
        }
        *pages = file->map + at;
        return 0;
}
