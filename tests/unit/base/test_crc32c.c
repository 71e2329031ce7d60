/*
 * test_crc32c.c - CRC-32C against the published vectors and a bit by bit reference.
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "crc32c_internal.h"
#include "walagent/base/crc32c.h"

#include <stdlib.h>
#include <string.h>

/* One bit at a time, straight from the definition. */
static uint32_t
reference(const unsigned char *p, size_t len)
{
    uint32_t reg = 0xFFFFFFFF;
    for (size_t i = 0; i < len; i++) {
        reg ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            reg = (reg & 1) != 0 ? reg >> 1 ^ 0x82F63B78 : reg >> 1;
    }
    return ~reg;
}

static void
fill(unsigned char *p, size_t len, uint32_t seed)
{
    for (size_t i = 0; i < len; i++) {
        seed = seed * 1664525 + 1013904223;
        p[i] = (unsigned char)(seed >> 24);
    }
}

/* RFC 3720, B.4 */
static void
the_published_vectors_come_out(void **state)
{
    (void)state;
    unsigned char block[32];
    assert_int_equal(wa_crc32c(0, "123456789", 9), 0xE3069283);
    assert_int_equal(wa_crc32c(0, "", 0), 0);
    memset(block, 0, sizeof block);
    assert_int_equal(wa_crc32c(0, block, 32), 0x8A9136AA);
    memset(block, 0xFF, sizeof block);
    assert_int_equal(wa_crc32c(0, block, 32), 0x62A8AB43);
    for (int i = 0; i < 32; i++)
        block[i] = (unsigned char)i;
    assert_int_equal(wa_crc32c(0, block, 32), 0x46DD794E);
    for (int i = 0; i < 32; i++)
        block[i] = (unsigned char)(31 - i);
    assert_int_equal(wa_crc32c(0, block, 32), 0x113FDB5C);
    assert_int_equal(wa_crc32c_portable(0, "123456789", 9), 0xE3069283);
}

static void
every_alignment_and_short_length_agrees_with_the_reference(void **state)
{
    (void)state;
    unsigned char data[16 + 160];
    fill(data, sizeof data, 1);
    for (size_t offset = 0; offset < 16; offset++)
        for (size_t len = 0; len <= 160; len++) {
            uint32_t expected = reference(data + offset, len);
            assert_int_equal(wa_crc32c(0, data + offset, len), expected);
            assert_int_equal(wa_crc32c_portable(0, data + offset, len), expected);
        }
}

/* Around the sizes at which the code changes from one to three streams, and between block sizes. */
static void
long_inputs_agree_with_the_reference(void **state)
{
    (void)state;
    static const size_t sizes[] = {767,   768,   769,   775,   776,   1535,  1536,  12287,
                                   12288, 12289, 13055, 13056, 24576, 25344, 40000, 65536};
    unsigned char *data = malloc(65536 + 8);
    assert_non_null(data);
    fill(data, 65536 + 8, 2);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (size_t offset = 0; offset < 8; offset += 3) {
            uint32_t expected = reference(data + offset, sizes[i]);
            assert_int_equal(wa_crc32c(0, data + offset, sizes[i]), expected);
            assert_int_equal(wa_crc32c_portable(0, data + offset, sizes[i]), expected);
        }
    free(data);
}

static void
pieces_give_the_sum_of_the_whole(void **state)
{
    (void)state;
    unsigned char data[20000];
    fill(data, sizeof data, 3);
    uint32_t whole = reference(data, sizeof data);
    for (size_t cut = 0; cut <= sizeof data; cut += 613) {
        uint32_t crc = wa_crc32c(0, data, cut);
        assert_int_equal(wa_crc32c(crc, data + cut, sizeof data - cut), whole);
        crc = wa_crc32c_portable(0, data, cut);
        assert_int_equal(wa_crc32c_portable(crc, data + cut, sizeof data - cut), whole);
    }
}

static void
the_values_of_two_pieces_give_that_of_the_whole(void **state)
{
    (void)state;
    unsigned char data[20000];
    fill(data, sizeof data, 4);
    uint32_t whole = wa_crc32c(0, data, sizeof data);
    for (size_t cut = 0; cut <= sizeof data; cut += cut < 70 ? 1 : 997) {
        uint32_t first = wa_crc32c(0, data, cut);
        uint32_t second = wa_crc32c(0, data + cut, sizeof data - cut);
        assert_int_equal(wa_crc32c_combine(first, second, sizeof data - cut), whole);
    }
    /* More than 4 GiB of zeros behind it: one gigabyte at a time gives the same as all at once. */
    uint32_t zeros = wa_crc32c(0, memset(data, 0, 1024), 1024), by_steps = whole, all = 0;
    for (int i = 0; i < 20; i++)
        zeros = wa_crc32c_combine(zeros, zeros, UINT64_C(1024) << i);
    for (int i = 0; i < 5; i++) {
        by_steps = wa_crc32c_combine(by_steps, zeros, UINT64_C(1) << 30);
        all = wa_crc32c_combine(all, zeros, UINT64_C(1) << 30);
    }
    assert_int_equal(wa_crc32c_combine(whole, all, UINT64_C(5) << 30), by_steps);
}

/* Every length of padding, and past the length from which on a record's body is summed in streams.
 * The buffer ends where the padding does, so that reading past it is found. */
static void
a_records_sum_leaves_out_its_crc_and_its_padding(void **state)
{
    (void)state;
    for (size_t tot_len = 24; tot_len <= 900; tot_len++)
        for (size_t offset = 0; offset < 8; offset += 1 + tot_len % 7) {
            unsigned char rotated[900];
            size_t body = tot_len - 24;
            size_t size = offset + (tot_len + 7) / 8 * 8;
            unsigned char *record = malloc(size);
            assert_non_null(record);
            fill(record, size, (uint32_t)(tot_len * 8 + offset));
            memcpy(rotated, record + offset + 24, body);
            memcpy(rotated + body, record + offset, 20);
            uint32_t expected = reference(rotated, body + 20);
            assert_int_equal(wa_crc32c_record(record + offset, tot_len), expected);
            assert_int_equal(wa_crc32c_record_portable(record + offset, tot_len), expected);
            free(record);
        }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_vectors_come_out),
        cmocka_unit_test(every_alignment_and_short_length_agrees_with_the_reference),
        cmocka_unit_test(long_inputs_agree_with_the_reference),
        cmocka_unit_test(pieces_give_the_sum_of_the_whole),
        cmocka_unit_test(the_values_of_two_pieces_give_that_of_the_whole),
        cmocka_unit_test(a_records_sum_leaves_out_its_crc_and_its_padding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
