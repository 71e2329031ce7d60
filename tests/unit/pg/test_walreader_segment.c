/*
 * Unit tests of pg/walreader_segment.c: complete, incomplete and damaged segments.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "walagent/base/bytes.h"
#include "walagent/pg/walreader.h"

#include "wal_builder.h"

#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define SYSTEM UINT64_C(7000000000000000001)
#define T0 INT64_C(800000000000000)

WA_DEFINE_CLEANUP(wal_builder, wal_builder_free)
#define BUILDER WA_CLEANUP(wal_builder_freep) wal_builder *

static wa_segment_check
check_fine(const uint8_t *bytes, wa_lsn start)
{
    wa_segment_check check = {0};
    wa_error err = WA_ERROR_INIT;

    wa_status status = wa_segment_check_all(bytes, MIB, start, NULL, NULL, &check, &err);
    if (status != WA_OK)
        print_error("%s\n", err.message);
    assert_int_equal(status, WA_OK);
    return check;
}

static void
check_broken(const uint8_t *bytes, size_t len, wa_lsn start, wa_status expected, const char *what)
{
    wa_segment_check check;
    wa_error err = WA_ERROR_INIT;

    assert_int_equal(wa_segment_check_all(bytes, len, start, NULL, NULL, &check, &err), expected);
    if (strstr(err.message, what) == NULL)
        print_error("%s\n", err.message);
    assert_non_null(strstr(err.message, what));
}

static wa_status
count(void *arg, const wa_record *record, wa_error *err)
{
    (void)record;
    (void)err;
    ++*(size_t *)arg;
    return WA_OK;
}

static void
a_full_segment_is_complete(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(&(wal_builder_options){.tli = 3});
    wa_lsn first = wal_add_commit(b, 1, T0);
    wal_fill_segment(b);
    assert_int_equal(wal_size(b), MIB);
    wa_segment_check check = check_fine(wal_bytes(b), MIB);

    assert_true(check.complete && check.parsed);
    assert_true(check.valid_end == 2 * MIB);
    assert_true(check.first_record == first && check.last_record == wal_prev(b));
    assert_true(check.system_identifier == SYSTEM);
    assert_int_equal(check.page_tli, 3);
    assert_true(check.page_addr == MIB);
    assert_int_equal(check.magic, WAL_MAGIC_15);
}

static void
every_record_goes_to_the_callback(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wal_add_commit(b, 1, T0);
    wal_add_noise(b, 1, 50000);
    wal_add_switch(b);
    size_t records = 0;
    wa_segment_check check;
    wa_error err = WA_ERROR_INIT;

    assert_int_equal(wa_segment_check_all(wal_bytes(b), MIB, MIB, count, &records, &check, &err),
                     WA_OK);
    assert_int_equal(records, 3);
    assert_true(check.complete && check.valid_end == 2 * MIB);
}

static void
a_record_may_go_on_in_the_next_segment(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wal_add_commit(b, 1, T0);
    wa_lsn last = wal_add_noise(b, 1, 3 * MIB);
    wal_pad_segment(b);
    wa_segment_check check = check_fine(wal_bytes(b), MIB);
    assert_true(check.complete && check.last_record == last);
    /* One that the record fills, in which none begins. */
    check = check_fine(wal_bytes(b) + MIB, 2 * MIB);
    assert_true(check.complete && check.first_record == 0 && check.last_record == 0);
}

/* Whatever the place of the cut, what is in front of it is the valid WAL, and nothing is corrupt.
 */
static void
a_segment_padded_anywhere_is_incomplete(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wal_add_commit(b, 1, T0);
    wal_fill_until(b, MIB + 20000);
    wal_add_noise(b, 1, 20000);
    wal_fill_until(b, MIB + 60000);
    size_t used = wal_size(b);
    wal_pad_segment(b);
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_memdup(wal_bytes(b), MIB);
    wa_lsn before = 2 * MIB;

    for (size_t cut = used; cut > 0; cut -= 8) {
        memset(bytes + cut - 8, 0, used - cut + 8);
        wa_segment_check check = {0};
        wa_error err = WA_ERROR_INIT;
        wa_status status = wa_segment_check_all(bytes, MIB, MIB, NULL, NULL, &check, &err);
        if (status != WA_OK)
            print_error("cut at %zu: %s\n", cut - 8, err.message);
        assert_int_equal(status, WA_OK);
        assert_false(check.complete);
        assert_true(check.valid_end <= MIB + cut - 8 || cut - 8 < 40);
        assert_true(check.valid_end <= before);
        before = check.valid_end;
        if (cut > 16384)
            cut -= 8 * (cut % 29);
    }
    assert_true(before == MIB);
}

static void
a_page_with_nothing_but_its_header_is_the_end(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wal_add_noise(b, 1, WA_WAL_PAGE - 40);
    wal_add_commit(b, 1, T0);
    wal_pad_segment(b);
    memset(wal_bytes_mutable(b) + WA_WAL_PAGE + 24, 0, 40);
    wa_segment_check check = check_fine(wal_bytes(b), MIB);
    assert_true(!check.complete && check.valid_end == MIB + WA_WAL_PAGE);
}

static void
a_recycled_rest_is_incomplete(void **state)
{
    (void)state;
    BUILDER old = wal_builder_new(NULL);
    BUILDER b = wal_builder_new(&(wal_builder_options){.start = 7 * MIB});
    wal_fill_segment(old);
    wal_fill_until(b, 7 * MIB + 30000);
    wa_lsn end = wal_position(b);
    wal_pad_segment(b);
    size_t keep = (size_t)(end / WA_WAL_PAGE + 1) * WA_WAL_PAGE - 7 * MIB;
    memcpy(wal_bytes_mutable(b) + keep, wal_bytes(old) + keep, MIB - keep);
    wa_segment_check check = check_fine(wal_bytes(b), 7 * MIB);
    assert_true(!check.complete && check.valid_end == end);

    /* Wholly recycled. */
    check = check_fine(wal_bytes(old), 7 * MIB);
    assert_true(!check.complete && check.valid_end == 7 * MIB && check.page_addr == MIB);
}

static void
a_hole_is_corrupt(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wal_add_noise(b, 1, WA_WAL_PAGE - 40);
    wal_add_noise(b, 1, WA_WAL_PAGE - 24);
    wal_fill_segment(b);
    memset(wal_bytes_mutable(b) + WA_WAL_PAGE, 0, WA_WAL_PAGE);
    check_broken(wal_bytes(b), MIB, MIB, WA_CORRUPT, "ends at 0/102000, but goes on at 0/104000");
}

static void
damage_is_corrupt(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wal_add_commit(b, 1, T0);
    wal_fill_segment(b);
    wal_bytes_mutable(b)[MIB / 2 + 1000] ^= 1;
    check_broken(wal_bytes(b), MIB, MIB, WA_CORRUPT, "record at");
    wal_bytes_mutable(b)[MIB / 2 + 1000] ^= 1;
    check_broken(wal_bytes(b), MIB - 8192, MIB, WA_CORRUPT, "no segment size");
    check_broken(wal_bytes(b), MIB / 2, MIB, WA_CORRUPT, "no segment size");
    check_broken(wal_bytes(b), MIB, MIB + 8192, WA_CORRUPT, "not where a segment");
    wa_put_u32le(wal_bytes_mutable(b) + 32, 16u << 20);
    check_broken(wal_bytes(b), MIB, MIB, WA_CONFLICT, "segment size");
}

static void
a_newer_major_is_not_parsed(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(&(wal_builder_options){.magic = 0xD11B});
    wal_fill_segment(b);
    wa_segment_check check = check_fine(wal_bytes(b), MIB);
    assert_true(!check.parsed && !check.complete);
    assert_int_equal(check.magic, 0xD11B);
    assert_true(check.page_addr == MIB);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_segment_is_complete),
        cmocka_unit_test(every_record_goes_to_the_callback),
        cmocka_unit_test(a_record_may_go_on_in_the_next_segment),
        cmocka_unit_test(a_segment_padded_anywhere_is_incomplete),
        cmocka_unit_test(a_page_with_nothing_but_its_header_is_the_end),
        cmocka_unit_test(a_recycled_rest_is_incomplete),
        cmocka_unit_test(a_hole_is_corrupt),
        cmocka_unit_test(damage_is_corrupt),
        cmocka_unit_test(a_newer_major_is_not_parsed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
