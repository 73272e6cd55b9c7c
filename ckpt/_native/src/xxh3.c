/* SPDX-License-Identifier: GPL-2.0-only
 *
 * XXH3-64 of long inputs, as github.com/Cyan4973/xxHash specifies it (doc/xxhash_spec.md).
 */
#include "xxh3.h"

#include <string.h>

enum {
        STRIPE = 64,
        NR_LANES = 8,
        SECRET = 192,
        LAST = 7,
        MERGE = 11,
        NR_STRIPES = (SECRET - STRIPE) / 8,
        WHOLE = NR_STRIPES * STRIPE,
};

#define PRIME32_1 0x9E3779B1ULL
#define PRIME32_2 0x85EBCA77ULL
#define PRIME32_3 0xC2B2AE3DULL
#define PRIME64_1 0x9E3779B185EBCA87ULL
#define PRIME64_2 0xC2B2AE3D27D4EB4FULL
#define PRIME64_3 0x165667B19E3779F9ULL
#define PRIME64_4 0x85EBCA77C2B2AE63ULL
#define PRIME64_5 0x27D4EB2F165667C5ULL
#define PRIME_MX1 0x165667919E3779F9ULL

static const uint64_t secret[SECRET / 8] = {
    0xbe4ba423396cfeb8ULL, 0x1cad21f72c81017cULL, 0xdb979083e96dd4deULL, 0x1f67b3b7a4a44072ULL,
    0x78e5c0cc4ee679cbULL, 0x2172ffcc7dd05a82ULL, 0x8e2443f7744608b8ULL, 0x4c263a81e69035e0ULL,
    0xcb00c391bb52283cULL, 0xa32e531b8b65d088ULL, 0x4ef90da297486471ULL, 0xd8acdea946ef1938ULL,
    0x3f349ce33f76faa8ULL, 0x1d4f0bc7c7bbdcf9ULL, 0x3159b4cd4be0518aULL, 0x647378d9c97e9fc8ULL,
    0xc3ebd33483acc5eaULL, 0xeb6313faffa081c5ULL, 0x49daf0b751dd0d17ULL, 0x9e68d429265516d3ULL,
    0xfca1477d58be162bULL, 0xce31d07ad1b8f88fULL, 0x280416958f3acb45ULL, 0x7e404bbbcafbd7afULL,
};

static uint64_t word(const void *from, size_t at)
{
        uint64_t value;

        memcpy(&value, (const char *)from + at, sizeof(value));
        return value;
}

/* Both halves of a * b, added by exclusive or. */
static uint64_t fold(uint64_t a, uint64_t b)
{
        unsigned __int128 product = (unsigned __int128)a * b;

        return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline void stripe(uint64_t *lanes, const char *data, const char *key)
{
        for (unsigned i = 0; i < NR_LANES; i++) {
                uint64_t value = word(data, 8 * i), mixed = value ^ word(key, 8 * i);

                lanes[i ^ 1] += value;
                lanes[i] += (mixed & 0xffffffff) * (mixed >> 32);
        }
}

static void scramble(uint64_t *lanes)
{
        for (unsigned i = 0; i < NR_LANES; i++) {
                lanes[i] ^= lanes[i] >> 47;
                lanes[i] ^= word(secret, SECRET - STRIPE + 8 * i);
                lanes[i] *= PRIME32_1;
        }
}

static uint64_t merge(const uint64_t *lanes, uint64_t len)
{
        uint64_t sum = len * PRIME64_1;

        for (unsigned i = 0; i < NR_LANES; i += 2)
                sum += fold(lanes[i] ^ word(secret, MERGE + 8 * i),
                            lanes[i + 1] ^ word(secret, MERGE + 8 * i + 8));
        sum ^= sum >> 37;
        sum *= PRIME_MX1;
        return sum ^ sum >> 32;
}

static const char *const keys = (const char *)secret;

void xxh3_begin(struct xxh3 *sum)
{
        *sum = (struct xxh3){.lanes = {PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4,
                                       PRIME32_2, PRIME64_5, PRIME32_1}};
}

void xxh3_more(struct xxh3 *sum, const void *data, uint64_t there, uint64_t len)
{
        /* The last byte is never in a whole block. */
        uint64_t upto = there < len ? there : len - 1;

        for (; upto - sum->done >= WHOLE; sum->done += WHOLE) {
                const char *at = (const char *)data + sum->done;

                for (unsigned i = 0; i < NR_STRIPES; i++)
                        stripe(sum->lanes, at + i * STRIPE, keys + 8 * i);
                scramble(sum->lanes);
        }
}

uint64_t xxh3_end(struct xxh3 *sum, const void *data, uint64_t len)
{
        xxh3_more(sum, data, len, len);
        for (uint64_t i = 0; i < (len - 1 - sum->done) / STRIPE; i++)
                stripe(sum->lanes, (const char *)data + sum->done + i * STRIPE, keys + 8 * i);
        stripe(sum->lanes, (const char *)data + len - STRIPE, keys + SECRET - STRIPE - LAST);
        return merge(sum->lanes, len);
}

uint64_t ckpt_xxh3(const void *data, uint64_t len)
{
        struct xxh3 sum;

        xxh3_begin(&sum);
        return xxh3_end(&sum, data, len);
}
