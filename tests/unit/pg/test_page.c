/*
 * test_page.c - a page's checksum, against pages that PostgreSQL wrote, and what counts as damage.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "walagent/base/bytes.h"
#include "walagent/base/mem.h"
#include "walagent/pg/page.h"

#define SIZE 8192
#define LSN ((wa_lsn)0x100000028)

/* A page in use with some content, its checksum right for `block`. */
static void
make_page(uint8_t page[static SIZE], uint32_t block, wa_lsn lsn)
{
    for (size_t i = 0; i < SIZE; i++)
        page[i] = (uint8_t)(i * 31 + i / 256);
    wa_put_u32le(page, (uint32_t)(lsn >> 32));
    wa_put_u32le(page + 4, (uint32_t)lsn);
    wa_put_u16le(page + 14, 4000);
    wa_put_u16le(page + 8, wa_page_checksum(page, SIZE, block));
}

static void
the_checksum_is_the_servers(void **state)
{
    (void)state;
    /* From PostgreSQL 15: a page of a visibility map, block 0; all bytes but these are zero. */
    static const struct {
        size_t at;
        uint8_t byte;
    } bytes[] = {{4, 0xB8},  {5, 0xAE},  {6, 0x6E},  {7, 0x01},  {8, 0x49},  {9, 0xE2},
                 {12, 0x18}, {15, 0x20}, {17, 0x20}, {18, 0x04}, {19, 0x20}, {24, 0x03}};
    uint8_t page[SIZE] = {0};
    for (size_t i = 0; i < WA_ARRAY_SIZE(bytes); i++)
        page[bytes[i].at] = bytes[i].byte;
    assert_int_equal(wa_page_checksum(page, SIZE, 0), wa_get_u16le(page + 8));
    assert_int_equal(wa_page_check(page, SIZE, 0, UINT64_MAX), WA_PAGE_VALID);
}

static void
a_flipped_bit_anywhere_is_damage(void **state)
{
    (void)state;
    uint8_t page[SIZE];
    make_page(page, 7, LSN);
    assert_int_equal(wa_page_check(page, SIZE, 7, LSN + 1), WA_PAGE_VALID);
    for (size_t at = 8; at < SIZE; at += 61) {
        page[at] ^= 0x10;
        assert_int_equal(wa_page_check(page, SIZE, 7, LSN + 1), WA_PAGE_DAMAGED);
        page[at] ^= 0x10;
    }
}

static void
a_page_in_another_place_is_damage(void **state)
{
    (void)state;
    uint8_t page[SIZE];
    make_page(page, 7, LSN);
    assert_int_equal(wa_page_check(page, SIZE, 8, LSN + 1), WA_PAGE_DAMAGED);
}

static void
a_wrong_page_that_was_written_since_is_mended_by_wal(void **state)
{
    (void)state;
    uint8_t page[SIZE];
    make_page(page, 7, LSN);
    page[5000] ^= 1;
    assert_int_equal(wa_page_check(page, SIZE, 7, LSN), WA_PAGE_CHANGED);
    assert_int_equal(wa_page_check(page, SIZE, 7, LSN + 1), WA_PAGE_DAMAGED);
}

static void
a_new_page_is_all_zeros(void **state)
{
    (void)state;
    uint8_t page[SIZE] = {0};
    assert_int_equal(wa_page_check(page, SIZE, 3, LSN), WA_PAGE_VALID);
    page[6000] = 1;
    assert_int_equal(wa_page_check(page, SIZE, 3, LSN), WA_PAGE_DAMAGED);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_checksum_is_the_servers),
        cmocka_unit_test(a_flipped_bit_anywhere_is_damage),
        cmocka_unit_test(a_page_in_another_place_is_damage),
        cmocka_unit_test(a_wrong_page_that_was_written_since_is_mended_by_wal),
        cmocka_unit_test(a_new_page_is_all_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
