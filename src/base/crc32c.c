/*
 * crc32c.c - CRC-32C by the processor's instructions, or by eight tables.
 *
 * Bit-reflected: the polynomial's x^0 is the top bit. Appending n zero bytes multiplies the
 * register by x^(8n) modulo the polynomial; by that the sums of three streams, which the processor
 * computes side by side because one instruction waits three cycles for the one before, become one.
 *
 * WAL records are too short for streams: there the processor works on neighbouring records at the
 * same time by itself, as long as no loop over single bytes makes it guess how often it turns.
 */
#include "walagent/base/crc32c.h"

#include "crc32c_internal.h"
#include "walagent/base/bytes.h"
#include "walagent/base/error.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#define POLYNOMIAL 0x82F63B78U

#define RECORD_HEADER 24u /* its last 4 bytes are the CRC */

typedef struct implementation {
    uint32_t (*update)(uint32_t reg, const unsigned char *p, size_t len);
    uint32_t (*record)(const unsigned char *p, size_t tot_len);
} implementation;

static uint32_t slices[8][256];
static _Atomic(const implementation *) chosen;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint32_t
times_x(uint32_t a)
{
    return a >> 1 ^ ((a & 1) != 0 ? POLYNOMIAL : 0);
}

static uint32_t
multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (uint32_t bit = 1U << 31; bit != 0; bit >>= 1) {
        if ((a & bit) != 0)
            product ^= b;
        b = times_x(b);
    }
    return product;
}

static uint32_t
power_of_x8(uint64_t n)
{
    uint32_t power = 1U << 31;  /* x^0 */
    uint32_t square = 1U << 23; /* x^8 */
    for (; n > 0; n >>= 1) {
        if ((n & 1) != 0)
            power = multiply(power, square);
        square = multiply(square, square);
    }
    return power;
}

static void
fill_slices(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t reg = i;
        for (int bit = 0; bit < 8; bit++)
            reg = times_x(reg);
        slices[0][i] = reg;
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t i = 0; i < 256; i++)
            slices[k][i] = slices[k - 1][i] >> 8 ^ slices[0][slices[k - 1][i] & 255];
}

static uint32_t
update_by_tables(uint32_t reg, const unsigned char *p, size_t len)
{
    for (; len >= 8; p += 8, len -= 8) {
        uint32_t low = wa_get_u32le(p) ^ reg;
        uint32_t high = wa_get_u32le(p + 4);
        reg = slices[7][low & 255] ^ slices[6][low >> 8 & 255] ^ slices[5][low >> 16 & 255] ^
              slices[4][low >> 24] ^ slices[3][high & 255] ^ slices[2][high >> 8 & 255] ^
              slices[1][high >> 16 & 255] ^ slices[0][high >> 24];
    }
    for (; len > 0; p++, len--)
        reg = reg >> 8 ^ slices[0][(reg ^ *p) & 255];
    return reg;
}

static uint32_t
record_by_tables(const unsigned char *p, size_t tot_len)
{
    uint32_t reg = update_by_tables(UINT32_MAX, p + RECORD_HEADER, tot_len - RECORD_HEADER);
    return update_by_tables(reg, p, RECORD_HEADER - 4);
}

static const implementation tables = {update_by_tables, record_by_tables};

#if defined(__x86_64__) || defined(__aarch64__)

#if defined(__x86_64__)
#define HARDWARE __attribute__((target("sse4.2")))
#define ADD_WORD(reg, word) _mm_crc32_u64(reg, word)
#else
#define HARDWARE __attribute__((target("+crc")))
#define ADD_WORD(reg, word) __crc32cd((uint32_t)(reg), word)
#endif

/*
 * The last word of a record's body, of which `pad` bytes (0 to 7) are padding, in one step. The
 * others are moved to the word's end: zero bytes in front of them leave a register of zero as it
 * is. What they don't reach of the register, when they are less than four, is added behind.
 */
HARDWARE static inline uint64_t
add_last_word(uint64_t reg, uint64_t word, unsigned pad)
{
    uint64_t not_reached = reg >> 8 >> (56 - 8 * pad);
    return ADD_WORD(0, (word ^ reg) << (8 * pad)) ^ not_reached;
}

HARDWARE static uint32_t
record_by_words(const unsigned char *p, size_t tot_len)
{
    const unsigned char *at = p + RECORD_HEADER;
    const unsigned char *last = p + (tot_len - 1) / 8 * 8;
    uint64_t reg = UINT32_MAX;
    if (tot_len > RECORD_HEADER) {
        for (; at < last; at += 8)
            reg = ADD_WORD(reg, wa_get_u64le(at));
        reg = add_last_word(reg, wa_get_u64le(last), (unsigned)(-tot_len & 7));
    }
    reg = ADD_WORD(reg, wa_get_u64le(p));
    reg = ADD_WORD(reg, wa_get_u64le(p + 8));
    return (uint32_t)add_last_word(reg, wa_get_u64le(p + 16), 4);
}

#endif

#if defined(__x86_64__)

/* Two sizes of three-stream blocks; each has a table that appends its length in zero bytes. */
#define LONG_BLOCK 4096
#define SHORT_BLOCK 256

typedef uint32_t zeros_table[4][256];
static zeros_table long_zeros;
static zeros_table short_zeros;

static void
fill_zeros(zeros_table table, size_t n)
{
    uint32_t factor = power_of_x8(n);
    for (int byte = 0; byte < 4; byte++)
        for (uint32_t i = 0; i < 256; i++)
            table[byte][i] = multiply(factor, i << (8 * byte));
}

static uint32_t
append_zeros(zeros_table table, uint32_t reg)
{
    return table[0][reg & 255] ^ table[1][reg >> 8 & 255] ^ table[2][reg >> 16 & 255] ^
           table[3][reg >> 24];
}

HARDWARE static uint32_t
update_three_streams(uint32_t reg, const unsigned char *p, size_t block, zeros_table zeros)
{
    uint64_t a = reg;
    uint64_t b = 0;
    uint64_t c = 0;
    for (size_t i = 0; i < block; i += 8) {
        a = _mm_crc32_u64(a, wa_get_u64le(p + i));
        b = _mm_crc32_u64(b, wa_get_u64le(p + block + i));
        c = _mm_crc32_u64(c, wa_get_u64le(p + 2 * block + i));
    }
    reg = append_zeros(zeros, (uint32_t)a) ^ (uint32_t)b;
    return append_zeros(zeros, reg) ^ (uint32_t)c;
}

HARDWARE static uint32_t
update_by_sse42(uint32_t reg, const unsigned char *p, size_t len)
{
    for (; len >= 3 * LONG_BLOCK; p += 3 * LONG_BLOCK, len -= 3 * LONG_BLOCK)
        reg = update_three_streams(reg, p, LONG_BLOCK, long_zeros);
    for (; len >= 3 * SHORT_BLOCK; p += 3 * SHORT_BLOCK, len -= 3 * SHORT_BLOCK)
        reg = update_three_streams(reg, p, SHORT_BLOCK, short_zeros);
    for (; len >= 8; p += 8, len -= 8)
        reg = (uint32_t)_mm_crc32_u64(reg, wa_get_u64le(p));
    for (; len > 0; p++, len--)
        reg = _mm_crc32_u8(reg, *p);
    return reg;
}

HARDWARE static uint32_t
record_by_sse42(const unsigned char *p, size_t tot_len)
{
    if (tot_len < RECORD_HEADER + 3 * SHORT_BLOCK)
        return record_by_words(p, tot_len);
    uint32_t reg = update_by_sse42(UINT32_MAX, p + RECORD_HEADER, tot_len - RECORD_HEADER);
    return update_by_sse42(reg, p, RECORD_HEADER - 4);
}

static const implementation hardware = {update_by_sse42, record_by_sse42};

static bool
prepare_hardware(void)
{
    if (!__builtin_cpu_supports("sse4.2"))
        return false;
    fill_zeros(long_zeros, LONG_BLOCK);
    fill_zeros(short_zeros, SHORT_BLOCK);
    return true;
}

#elif defined(__aarch64__)

HARDWARE static uint32_t
update_by_armv8(uint32_t reg, const unsigned char *p, size_t len)
{
    for (; len >= 8; p += 8, len -= 8)
        reg = __crc32cd(reg, wa_get_u64le(p));
    for (; len > 0; p++, len--)
        reg = __crc32cb(reg, *p);
    return reg;
}

static const implementation hardware = {update_by_armv8, record_by_words};

static bool
prepare_hardware(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}

#else

static const implementation hardware = {update_by_tables, record_by_tables};

static bool
prepare_hardware(void)
{
    return false;
}

#endif

static void
choose(void)
{
    fill_slices();
    atomic_store(&chosen, prepare_hardware() ? &hardware : &tables);
}

static inline const implementation *
get_chosen(void)
{
    const implementation *now = atomic_load_explicit(&chosen, memory_order_acquire);
    if (now == NULL) {
        WA_ASSERT(pthread_once(&once, choose) == 0);
        now = atomic_load(&chosen);
    }
    return now;
}

uint32_t
wa_crc32c(uint32_t crc, const void *data, size_t len)
{
    return ~get_chosen()->update(~crc, data, len);
}

uint32_t
wa_crc32c_combine(uint32_t first, uint32_t second, uint64_t second_len)
{
    return multiply(power_of_x8(second_len), first) ^ second;
}

uint32_t
wa_crc32c_record(const void *record, size_t tot_len)
{
    return ~get_chosen()->record(record, tot_len);
}

uint32_t
wa_crc32c_portable(uint32_t crc, const void *data, size_t len)
{
    WA_ASSERT(pthread_once(&once, choose) == 0);
    return ~update_by_tables(~crc, data, len);
}

uint32_t
wa_crc32c_record_portable(const void *record, size_t tot_len)
{
    WA_ASSERT(pthread_once(&once, choose) == 0);
    return ~record_by_tables(record, tot_len);
}
