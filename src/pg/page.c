/*
 * page.c - the header and the checksum of a page. Little-endian:
 *     0 u32 LSN, high half         4 u32 LSN, low half         8 u16 checksum
 *    10 u16 flags                 12 u16 lower                14 u16 upper (0: the page is new)
 *    16 u16 special               18 u16 size and version     20 u32 prune xid
 *
 * The checksum: the page, its own checksum taken as 0, is a table of 32 columns of u32; each column
 * is hashed by FNV-1a with a shift, two rows of zeros follow, the columns are xored together and
 * with the block number, and the rest of a division by 65535, plus 1, is what is kept. The columns
 * are independent of each other, so that the compiler can use vectors.
 */
#include "walagent/pg/page.h"

#include "walagent/base/bytes.h"
#include "walagent/base/error.h"

#define COLUMNS 32
#define CHECKSUM_AT 8
#define UPPER_AT 14
#define FNV_PRIME 16777619u

static const uint32_t offsets[COLUMNS] = {
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756};

#define LANES 8 /* of a vector; as many as AVX2 has, and what has less takes several */
typedef uint32_t vector __attribute__((vector_size(4 * LANES)));
/* Loaded as a whole: what goes through memory in halves is waited for. */
typedef uint32_t loose __attribute__((vector_size(4 * LANES), aligned(1), may_alias));

#define VECTORS __attribute__((optimize("O3")))
#if defined(__x86_64__)
#define AVX2 __attribute__((optimize("O3"), target("avx2")))
#endif
#define INLINE static inline __attribute__((always_inline))

INLINE void
add(vector *sum, const void *from)
{
    vector mixed = *sum ^ *(const loose *)from;
    *sum = mixed * FNV_PRIME ^ mixed >> 17;
}

INLINE uint32_t
hash(const uint8_t *page, size_t size)
{
    static const uint32_t zeros[LANES];
    const uint32_t *o = offsets;
    uint32_t first[LANES], last[LANES], result = 0;
    vector a = *(const loose *)o, b = *(const loose *)(o + LANES),
           c = *(const loose *)(o + 2 * LANES), d = *(const loose *)(o + 3 * LANES);
    memcpy(first, page, sizeof first);
    first[CHECKSUM_AT / 4] = htole32(le32toh(first[CHECKSUM_AT / 4]) & 0xFFFF0000u);
    for (size_t at = 0; at < size; at += 4 * COLUMNS) {
        add(&a, at == 0 ? (const void *)first : page + at);
        add(&b, page + at + 4 * LANES);
        add(&c, page + at + 8 * LANES);
        add(&d, page + at + 12 * LANES);
    }
    for (int i = 0; i < 2; i++) {
        add(&a, zeros);
        add(&b, zeros);
        add(&c, zeros);
        add(&d, zeros);
    }
    a ^= b ^ c ^ d;
    memcpy(last, &a, sizeof last);
    for (size_t i = 0; i < LANES; i++)
        result ^= last[i];
    return result;
}

VECTORS static uint32_t
hash_plain(const uint8_t *page, size_t size)
{
    return hash(page, size);
}

#if defined(__x86_64__)
AVX2 static uint32_t
hash_avx2(const uint8_t *page, size_t size)
{
    return hash(page, size);
}
#endif

uint16_t
wa_page_checksum(const void *page, size_t size, uint32_t block)
{
    WA_ASSERT(size >= 1024 && size % (4 * COLUMNS) == 0);
#if defined(__x86_64__)
    uint32_t sum = __builtin_cpu_supports("avx2") ? hash_avx2(page, size) : hash_plain(page, size);
#else
    uint32_t sum = hash_plain(page, size);
#endif
    return (uint16_t)((sum ^ block) % 65535 + 1);
}

wa_lsn
wa_page_lsn(const void *page)
{
    return (wa_lsn)wa_get_u32le(page) << 32 | wa_get_u32le((const uint8_t *)page + 4);
}

static bool
is_zero(const uint8_t *page, size_t size)
{
    uint64_t any = 0;
    for (size_t i = 0; i < size; i += 8)
        any |= wa_get_u64le(page + i);
    return any == 0;
}

wa_page_state
wa_page_check(const void *page, size_t size, uint32_t block, wa_lsn since)
{
    const uint8_t *p = page;
    bool is_new = wa_get_u16le(p + UPPER_AT) == 0;
    if (is_new ? is_zero(p, size)
               : wa_get_u16le(p + CHECKSUM_AT) == wa_page_checksum(p, size, block))
        return WA_PAGE_VALID;
    return wa_page_lsn(p) >= since ? WA_PAGE_CHANGED : WA_PAGE_DAMAGED;
}
