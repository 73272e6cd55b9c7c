/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include "grow.h"

#include <stdlib.h>
#include <string.h>

#define NR_BYTES 65536

/* START-END PERMS OFFSET DEVICE INODE [PATH]; without a file device and inode are 0. */
static long add_line(struct extents *to, const char *line)
{
        char *at;
        uint64_t start = strtoull(line, &at, 16), end = *at == '-' ? strtoull(at + 1, &at, 16) : 0;
        int is_private = end && strnlen(at, 5) == 5 && at[4] == 'p';

        if (!is_private)
                return 0;
        strtoull(at + 5, &at, 16);
        if (strncmp(at, " 00:00 0", 8) || (at[8] >= '0' && at[8] <= '9'))
                return 0;
        /* A mapping that grew while the list was made may reach back over the one before. */
        if (to->nr && start < to->at[to->nr - 1].end)
                start = to->at[to->nr - 1].end;
        return start < end ? extents_append(to, start, end, 1) : 0;
}

/* All whole lines in `text`; the number of bytes that they take. */
static long add_lines(struct extents *to, char *text)
{
        char *line = text, *end;

        while ((end = strchr(line, '\n'))) {
                long err;

                *end = 0;
                err = add_line(to, line);
                if (err)
                        return err;
                line = end + 1;
        }
        return line - text;
}

long ckpt_find_anonymous(int maps, struct ckpt_extent **out)
{
        struct extents to = {0};
        char *text = malloc(NR_BYTES + 1);
        size_t held = 0;
        long err = text ? 0 : -ENOMEM;
        ssize_t got = 1;

        if (!err && lseek(maps, 0, SEEK_SET) < 0)
                err = -errno;
        while (!err && got) {
                long used;

                got = read(maps, text + held, NR_BYTES - held);
                if (got < 0)
                        break;
                held += (size_t)got;
                text[held] = 0;
                used = add_lines(&to, text);
                if (used < 0)
                        err = used;
                else if (!used && held == NR_BYTES)
                        err = -EIO;
                else
                        memmove(text, text + used, held -= (size_t)used);
        }
        if (got < 0)
                err = -errno;
        free(text);
        if (err) {
                free(to.at);
                return err;
        }
        *out = to.at;
        return (long)to.nr;
}
