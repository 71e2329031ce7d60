/*
 * Unit tests of pg/lsn.c: LSN and segment name texts against values from PostgreSQL.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "walagent/pg/lsn.h"

#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)

static void
lsn_text_is_postgresqls(void **state)
{
    (void)state;
    char text[WA_LSN_TEXT];

    assert_string_equal(wa_lsn_format(0x16B374D848, text), "16/B374D848");
    assert_string_equal(wa_lsn_format(0x1000000, text), "0/1000000");
    assert_string_equal(wa_lsn_format(UINT64_MAX, text), "FFFFFFFF/FFFFFFFF");
    assert_string_equal(wa_lsn_hex(0x16B374D848, text), "00000016B374D848");
}

static void
lsn_parse_refuses_what_is_no_lsn(void **state)
{
    (void)state;
    static const char *const bad[] = {"",     "/",           "1",     "1/",          "/1",
                                      "1/g",  "123456789/1", "1/2/3", "1/123456789", " 1/2",
                                      "1/2 ", "0x1/2",       "-1/2",  "1 /2"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        wa_error err = WA_ERROR_INIT;
        wa_lsn lsn = 42;
        assert_int_equal(wa_lsn_parse(bad[i], &lsn, &err), WA_INVALID);
        assert_int_equal(lsn, 42);
        assert_true(err.hint[0] != '\0');
    }
}

static void
lsn_text_and_key_round_trip(void **state)
{
    (void)state;
    unsigned seed = 7;

    print_message("seed %u\n", seed);
    srandom(seed);
    for (int i = 0; i < 10000; i++) {
        wa_lsn lsn = ((uint64_t)random() << 33 ^ (uint64_t)random() << 8) >> (random() % 60);
        wa_lsn back = ~lsn;
        char text[WA_LSN_TEXT];
        wa_error err = WA_ERROR_INIT;
        assert_int_equal(wa_lsn_parse(wa_lsn_format(lsn, text), &back, &err), WA_OK);
        assert_true(back == lsn);
        back = ~lsn;
        assert_true(wa_lsn_parse_hex(wa_lsn_hex(lsn, text), &back));
        assert_true(back == lsn);
    }
    wa_lsn lsn;
    assert_false(wa_lsn_parse_hex("00000016b374d848", &lsn));
    assert_false(wa_lsn_parse_hex("00000016B374D84", &lsn));
    assert_false(wa_lsn_parse_hex("00000016B374D8480", &lsn));
}

static void
segment_names_cross_the_log_id(void **state)
{
    (void)state;
    char name[WA_SEGMENT_NAME];

    assert_string_equal(wa_segment_name(1, 0xFF, 16 * MIB, name), "0000000100000000000000FF");
    assert_string_equal(wa_segment_name(1, 0x100, 16 * MIB, name), "000000010000000100000000");
    assert_string_equal(wa_segment_name(0x0A, 0xFFF, MIB, name), "0000000A0000000000000FFF");
    assert_string_equal(wa_segment_name(0x0A, 0x1000, MIB, name), "0000000A0000000100000000");
    assert_string_equal(wa_segment_name(2, 4, 1024 * MIB, name), "000000020000000100000000");
}

static void
segment_name_and_number_round_trip(void **state)
{
    (void)state;

    srandom(11);
    for (uint64_t size = MIB; size <= 1024 * MIB; size *= 2)
        for (int i = 0; i < 200; i++) {
            wa_segno segno = ((uint64_t)random() << 31 | (uint64_t)random()) % (UINT64_MAX / size);
            wa_tli tli = (wa_tli)(1 + random());
            char name[WA_SEGMENT_NAME];
            wa_tli tli_back = 0;
            wa_segno segno_back = 0;
            assert_true(wa_segment_parse(wa_segment_name(tli, segno, size, name), size, &tli_back,
                                         &segno_back));
            assert_int_equal(tli_back, tli);
            assert_true(segno_back == segno);
            assert_true(wa_segno_of(wa_segment_start(segno, size) + size - 1, size) == segno);
        }
}

static void
segment_parse_refuses_impossible_names(void **state)
{
    (void)state;
    wa_tli tli;
    wa_segno segno;

    assert_false(wa_segment_parse("000000010000000000000100", 16 * MIB, &tli, &segno));
    assert_true(wa_segment_parse("000000010000000000000100", MIB, &tli, &segno));
    assert_false(wa_segment_parse("000000000000000000000001", MIB, &tli, &segno));
    assert_false(wa_segment_parse("00000001000000000000000a", MIB, &tli, &segno));
    assert_false(wa_segment_parse("00000001000000000000001", MIB, &tli, &segno));
    assert_false(wa_segment_parse("0000000100000000000000010", MIB, &tli, &segno));
    assert_false(wa_segment_parse("", MIB, &tli, &segno));
}

static void
segment_sizes_are_powers_of_two_in_range(void **state)
{
    (void)state;
    assert_true(wa_segment_size_valid(MIB));
    assert_true(wa_segment_size_valid(1024 * MIB));
    assert_false(wa_segment_size_valid(2048 * MIB));
    assert_false(wa_segment_size_valid(MIB / 2));
    assert_false(wa_segment_size_valid(3 * MIB));
    assert_false(wa_segment_size_valid(0));
}

static void
file_kinds_are_told_by_name(void **state)
{
    (void)state;
    assert_int_equal(wa_wal_file_kind_of("000000010000000000000003"), WA_WAL_SEGMENT);
    assert_int_equal(wa_wal_file_kind_of("000000010000000000000003.partial"), WA_WAL_PARTIAL);
    assert_int_equal(wa_wal_file_kind_of("0000000A.history"), WA_WAL_HISTORY);
    assert_int_equal(wa_wal_file_kind_of("000000010000000000000003.00000028.backup"),
                     WA_WAL_BACKUP);
    assert_int_equal(wa_wal_file_kind_of("0000000a.history"), WA_WAL_OTHER);
    assert_int_equal(wa_wal_file_kind_of("000000010000000000000003.0000002.backup"), WA_WAL_OTHER);
    assert_int_equal(wa_wal_file_kind_of("000000010000000000000003.partial2"), WA_WAL_OTHER);
    assert_int_equal(wa_wal_file_kind_of("archive_status"), WA_WAL_OTHER);
    assert_int_equal(wa_wal_file_kind_of(""), WA_WAL_OTHER);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lsn_text_is_postgresqls),
        cmocka_unit_test(lsn_parse_refuses_what_is_no_lsn),
        cmocka_unit_test(lsn_text_and_key_round_trip),
        cmocka_unit_test(segment_names_cross_the_log_id),
        cmocka_unit_test(segment_name_and_number_round_trip),
        cmocka_unit_test(segment_parse_refuses_impossible_names),
        cmocka_unit_test(segment_sizes_are_powers_of_two_in_range),
        cmocka_unit_test(file_kinds_are_told_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
