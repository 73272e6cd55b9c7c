/* SPDX-License-Identifier: GPL-2.0-only */
#include "native.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
        NARROW = 24,
        WIDE = 32,
        REST = WIDE - NARROW,
        PAGE_BITS = 12,
        PIECE = 256 << 10,
};

enum command {
        PARENT = 5,
        ADD_F = 6,
        GET = 7,
        CLOSE = 0x1023,
        FORCE_CLOSE = 0x1024,
};

#define COMMAND_MASK 0xffffU
#define PRESENT      (4U << 16)
#define KIND_MASK    0xffU
#define PID_END      (1ULL << 22)
#define ADDR_END     (1ULL << 63)

struct message {
        uint32_t command;
        uint64_t nr_pages;
        uint64_t addr;
        uint64_t image;
};

struct answering {
        int sock;
        int wide;       /* -1: nothing has come yet */
        uint64_t asked; /* by the first message, if that was a narrow PARENT: its image */
        const struct ckpt_held *held;
        uint64_t nr;
        struct ckpt_answered *done;
        unsigned char *buffer; /* WIDE + PIECE bytes */
};

static uint64_t number(const unsigned char *at, int size)
{
        uint64_t value = 0;

        memcpy(&value, at, (size_t)size);
        return le64toh(value);
}

static void put(unsigned char *at, uint64_t value, int size)
{
        value = htole64(value);
        memcpy(at, &value, (size_t)size);
}

static long receive(int sock, unsigned char *to, size_t len)
{
        while (len) {
                ssize_t got = recv(sock, to, len, MSG_WAITALL);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        return got ? -errno : -ECONNRESET;
                to += got;
                len -= (size_t)got;
        }
        return 0;
}

static long transmit(int sock, const unsigned char *from, size_t len, int flags)
{
        while (len) {
                ssize_t sent = send(sock, from, len, MSG_NOSIGNAL | flags);

                if (sent < 0 && errno == EINTR)
                        continue;
                if (sent < 0)
                        return -errno;
                from += sent;
                len -= (size_t)sent;
        }
        return 0;
}

/* No session tells its layout. A GET has pages and a task's number: what stands there in the narrow
 * form is padding and an address in the wide one. A PARENT has an image and nothing else. */
static int is_wide(const unsigned char *first)
{
        uint64_t last = number(first + 16, 8);

        if ((number(first, 4) & COMMAND_MASK) == GET)
                return !number(first + 4, 4) || last >= PID_END;
        return (number(first, 4) & COMMAND_MASK) == PARENT && !last;
}

static long next(struct answering *to, struct message *message)
{
        unsigned char raw[WIDE];
        long err = receive(to->sock, raw, REST);

        /* Who has waited for our first answer in vain takes us for wide, and sends the rest of its
         * question: see ckpt.images.pageserver.connect. */
        if (!err && to->asked && number(raw, REST) == to->asked) {
                to->wide = 1;
                err = receive(to->sock, raw, REST);
        }
        to->asked = 0;
        if (!err)
                err = receive(to->sock, raw + REST, NARROW - REST);
        if (err)
                return err;
        if (to->wide < 0) {
                to->wide = is_wide(raw);
                if (!to->wide && (number(raw, 4) & COMMAND_MASK) == PARENT &&
                    number(raw + 16, 8) > KIND_MASK)
                        to->asked = number(raw + 16, 8);
        }
        if (to->wide) {
                err = receive(to->sock, raw + NARROW, WIDE - NARROW);
                if (err)
                        return err;
        }
        message->command = (uint32_t)number(raw, 4) & COMMAND_MASK;
        message->nr_pages = to->wide ? number(raw + 8, 8) : number(raw + 4, 4);
        message->addr = number(raw + (to->wide ? 16 : 8), 8);
        message->image = number(raw + (to->wide ? 24 : 16), 8);
        return 0;
}

static size_t put_header(const struct answering *to, uint64_t nr_pages, const struct message *of)
{
        unsigned char *at = to->buffer;

        memset(at, 0, WIDE);
        put(at, ADD_F | PRESENT, 4);
        if (to->wide)
                put(at + 8, nr_pages, 8);
        else
                put(at + 4, nr_pages, 4);
        put(at + (to->wide ? 16 : 8), of->addr, 8);
        put(at + (to->wide ? 24 : 16), of->image, 8);
        return to->wide ? WIDE : NARROW;
}

/* The first piece that ends above the address. */
static const struct ckpt_held *find(const struct answering *in, uint64_t image, uint64_t addr)
{
        uint64_t low = 0, high = in->nr;

        while (low < high) {
                uint64_t mid = low + (high - low) / 2;
                const struct ckpt_held *at = &in->held[mid];

                if (at->image < image || (at->image == image && at->end <= addr))
                        low = mid + 1;
                else
                        high = mid;
        }
        return &in->held[low];
}

static long read_pages(const struct ckpt_held *from, uint64_t addr, unsigned char *to, size_t len)
{
        while (len) {
                off_t at = (off_t)(from->offset + (addr - from->start));
                ssize_t got = pread(from->lfd, to, len, at);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        return -ENODATA;
                addr += (uint64_t)got;
                to += got;
                len -= (size_t)got;
        }
        return 0;
}

static long send_pages(struct answering *to, const struct message *asked)
{
        const struct ckpt_held *const first = find(to, asked->image, asked->addr);
        const struct ckpt_held *const all = to->held + to->nr;
        const uint64_t wanted = asked->addr + (asked->nr_pages << PAGE_BITS);
        uint64_t end = asked->addr;

        for (const struct ckpt_held *at = first; at < all && end < wanted; at++) {
                if (at->image != asked->image || at->start > end)
                        break;
                end = at->end < wanted ? at->end : wanted;
        }
        size_t used = put_header(to, (end - asked->addr) >> PAGE_BITS, asked);
        uint64_t addr = asked->addr;

        for (const struct ckpt_held *at = first; addr < end;) {
                uint64_t upto = at->end < end ? at->end : end;
                size_t len = upto - addr < PIECE ? upto - addr : PIECE;
                long err = read_pages(at, addr, to->buffer + used, len);

                if (!err)
                        err = transmit(to->sock, to->buffer, used + len,
                                       addr + len < end ? MSG_MORE : 0);
                if (err)
                        return err;
                to->done->nr_bytes += len;
                addr += len;
                used = 0;
                if (addr == at->end)
                        at++;
        }
        return used ? transmit(to->sock, to->buffer, used, 0) : 0;
}

static int asks_wrongly(const struct message *message)
{
        return !message->nr_pages || message->addr & ((1 << PAGE_BITS) - 1) ||
               message->addr >= ADDR_END ||
               message->nr_pages > (ADDR_END - message->addr) >> PAGE_BITS;
}

/* Who has gone while an answer was on its way may have taken its leave: what it asked for last had
 * been given back there meanwhile. */
static long look_for_leave(struct answering *to, long err)
{
        struct message message;

        while (!next(to, &message))
                if (message.command == CLOSE || message.command == FORCE_CLOSE)
                        return 0;
        return err;
}

static long serve(struct answering *to)
{
        static const unsigned char zero[4];

        for (;;) {
                struct message message;
                long err = next(to, &message);

                if (err)
                        return err;
                switch (message.command) {
                case GET:
                        if (asks_wrongly(&message))
                                return -EPROTO;
                        to->done->nr_requests++;
                        err = send_pages(to, &message);
                        if (err && err != -ENODATA)
                                return look_for_leave(to, err);
                        break;
                case PARENT:
                        err = transmit(to->sock, zero, sizeof(zero), 0);
                        break;
                case CLOSE:
                case FORCE_CLOSE:
                        /* It has all it wants, and need not wait to hear that we know it. */
                        transmit(to->sock, zero, sizeof(zero), 0);
                        return 0;
                default:
                        return -EPROTO;
                }
                if (err)
                        return err;
        }
}

long ckpt_answer(int sock, const struct ckpt_held *held, uint64_t nr, struct ckpt_answered *done)
{
        struct answering to = {
            .sock = sock,
            .wide = -1,
            .held = held,
            .nr = nr,
            .done = done,
            .buffer = malloc(WIDE + PIECE),
        };

        if (!to.buffer)
                return -ENOMEM;
        long err = serve(&to);

        free(to.buffer);
        if (err == -ENODATA || err == -EPROTO)
                shutdown(sock, SHUT_RDWR);
        return err;
}
