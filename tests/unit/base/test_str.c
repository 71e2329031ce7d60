/*
 * test_str.c - strings, lists, hexadecimal, numbers with units, the nearest word.
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "walagent/base/str.h"

#include <string.h>

static void
null_equals_null_only(void **state)
{
    (void)state;
    assert_true(wa_str_eq(NULL, NULL));
    assert_false(wa_str_eq(NULL, ""));
    assert_false(wa_str_eq("", NULL));
    assert_true(wa_str_eq("a", "a"));
    assert_false(wa_str_eq("a", "b"));
    assert_true(wa_str_empty(NULL));
    assert_true(wa_str_empty(""));
    assert_false(wa_str_empty(" "));
}

static void
prefix_and_suffix_are_found_at_the_ends_only(void **state)
{
    (void)state;
    assert_true(wa_str_starts("walagent", "wal"));
    assert_false(wa_str_starts("wa", "wal"));
    assert_false(wa_str_starts("awal", "wal"));
    assert_true(wa_str_ends("x.zst", ".zst"));
    assert_false(wa_str_ends("zst", ".zst"));
    assert_false(wa_str_ends("x.zst.tmp", ".zst"));
    assert_true(wa_str_starts("a", ""));
    assert_true(wa_str_ends("a", ""));
    assert_false(wa_str_starts(NULL, ""));
}

static void
a_list_keeps_what_is_added_and_sorts(void **state)
{
    (void)state;
    WA_CLEANUP(wa_strv_done) wa_strv v = {0};
    wa_strv_sort(&v);
    char name[8] = "n00";
    for (int i = 0; i < 50; i++) {
        name[1] = (char)('0' + (49 - i) / 10);
        name[2] = (char)('0' + (49 - i) % 10);
        wa_strv_add(&v, name);
    }
    wa_strv_take(&v, wa_strdup("a"));
    assert_int_equal(v.count, 51);
    assert_string_equal(v.items[0], "n49");
    wa_strv_sort(&v);
    assert_string_equal(v.items[0], "a");
    assert_string_equal(v.items[1], "n00");
    assert_string_equal(v.items[50], "n49");
    assert_true(wa_strv_contains(&v, "n33"));
    assert_false(wa_strv_contains(&v, "n50"));
}

static void
whole_decimal_numbers_are_parsed(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    uint64_t u = 0;
    int64_t i = 0;
    assert_int_equal(wa_parse_u64("18446744073709551615", &u, &err), WA_OK);
    assert_true(u == UINT64_MAX);
    assert_int_equal(wa_parse_u64("007", &u, &err), WA_OK);
    assert_int_equal(u, 7);
    assert_int_equal(wa_parse_i64("-9223372036854775808", &i, &err), WA_OK);
    assert_true(i == INT64_MIN);
    assert_int_equal(wa_parse_i64("9223372036854775807", &i, &err), WA_OK);
    assert_true(i == INT64_MAX);
    assert_int_equal(wa_parse_i64("+5", &i, &err), WA_OK);
    assert_int_equal(i, 5);
}

static void
anything_but_a_number_is_refused_and_the_output_stays(void **state)
{
    (void)state;
    static const char *const bad_u[] = {
        "", " 1", "1 ", "+1", "-1", "0x1", "1a", "18446744073709551616", "99999999999999999999"};
    static const char *const bad_i[] = {
        "", "-", "+", "--1", "9223372036854775808", "-9223372036854775809", "1.0"};
    wa_error err = WA_ERROR_INIT;
    uint64_t u = 77;
    int64_t i = 77;
    for (size_t n = 0; n < WA_ARRAY_SIZE(bad_u); n++) {
        assert_int_equal(wa_parse_u64(bad_u[n], &u, &err), WA_INVALID);
        assert_non_null(strstr(err.message, bad_u[n]));
    }
    for (size_t n = 0; n < WA_ARRAY_SIZE(bad_i); n++)
        assert_int_equal(wa_parse_i64(bad_i[n], &i, &err), WA_INVALID);
    assert_int_equal(u, 77);
    assert_int_equal(i, 77);
}

static void
hex_takes_exactly_the_digits_asked_for(void **state)
{
    (void)state;
    uint64_t v = 0;
    assert_true(wa_parse_hex("DEADbeef", 8, &v));
    assert_int_equal(v, 0xDEADBEEF);
    assert_true(wa_parse_hex("12/34", 2, &v));
    assert_int_equal(v, 0x12);
    assert_true(wa_parse_hex("FFFFFFFFFFFFFFFF", 16, &v));
    assert_true(v == UINT64_MAX);
    assert_false(wa_parse_hex("123", 4, &v));
    assert_false(wa_parse_hex("0x12", 4, &v));
    assert_false(wa_parse_hex("+123", 4, &v));
    assert_false(wa_parse_hex("1", 0, &v));
    assert_false(wa_parse_hex("11111111111111111", 17, &v));
    assert_true(v == UINT64_MAX);
}

static void
hex_of_bytes_and_back_is_the_identity(void **state)
{
    (void)state;
    unsigned char bytes[256];
    unsigned char back[256];
    char text[513];
    size_t len = 0;
    for (int i = 0; i < 256; i++)
        bytes[i] = (unsigned char)i;
    assert_string_equal(wa_hex("\x0f\xa0", 2, text), "0fa0");
    wa_hex(bytes, sizeof bytes, text);
    assert_true(wa_unhex(text, back, sizeof back, &len));
    assert_int_equal(len, 256);
    assert_memory_equal(bytes, back, 256);
    assert_false(wa_unhex(text, back, 255, &len));
    assert_false(wa_unhex("abc", back, sizeof back, &len));
    assert_false(wa_unhex("zz", back, sizeof back, &len));
}

static void
sizes_take_binary_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"512", 512},
        {"512B", 512},
        {"8kB", 8192},
        {"8 kB", 8192},
        {"1k", 1024},
        {"1KiB", 1024},
        {"16MiB", 16777216},
        {"16MB", 16777216},
        {"16mb", 16777216},
        {"1GiB", 1ULL << 30},
        {"10GB", 10ULL << 30},
        {"2TB", 2ULL << 40},
        {"1PiB", 1ULL << 50},
    };
    static const char *const bad[] = {"",        "MB",   "1.5GB",    "-1",
                                      "1 ",      "1XB",  "1M B",     "1 MB ",
                                      "16 MiBs", "0x10", "16384PiB", "18446744073709551616"};
    wa_error err = WA_ERROR_INIT;
    uint64_t bytes = 0;
    for (size_t i = 0; i < WA_ARRAY_SIZE(good); i++) {
        assert_int_equal(wa_parse_size(good[i].text, &bytes, &err), WA_OK);
        assert_int_equal(bytes, good[i].bytes);
    }
    bytes = 77;
    for (size_t i = 0; i < WA_ARRAY_SIZE(bad); i++) {
        assert_int_equal(wa_parse_size(bad[i], &bytes, &err), WA_INVALID);
        assert_string_not_equal(err.hint, "");
    }
    assert_int_equal(bytes, 77);
}

static void
durations_take_units_and_a_bare_number_is_seconds(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {
        {"0", 0},          {"3", 3000},     {"500ms", 500},      {"1s", 1000},
        {"10min", 600000}, {"2h", 7200000}, {"30d", 2592000000}, {"2 h", 7200000},
    };
    static const char *const bad[] = {"",    "s",    "1m",   "1 month",
                                      "-1s", "1.5s", "1s1s", "213503982335d"};
    wa_error err = WA_ERROR_INIT;
    uint64_t ms = 0;
    for (size_t i = 0; i < WA_ARRAY_SIZE(good); i++) {
        assert_int_equal(wa_parse_duration_ms(good[i].text, &ms, &err), WA_OK);
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < WA_ARRAY_SIZE(bad); i++)
        assert_int_equal(wa_parse_duration_ms(bad[i], &ms, &err), WA_INVALID);
}

static void
switches_take_the_words_of_postgresql(void **state)
{
    (void)state;
    static const char *const yes[] = {"on", "ON", "true", "yes", "1"};
    static const char *const no[] = {"off", "false", "No", "0"};
    wa_error err = WA_ERROR_INIT;
    for (size_t i = 0; i < WA_ARRAY_SIZE(yes); i++) {
        bool flag = false;
        assert_int_equal(wa_parse_bool(yes[i], &flag, &err), WA_OK);
        assert_true(flag);
    }
    for (size_t i = 0; i < WA_ARRAY_SIZE(no); i++) {
        bool flag = true;
        assert_int_equal(wa_parse_bool(no[i], &flag, &err), WA_OK);
        assert_false(flag);
    }
    bool flag;
    assert_int_equal(wa_parse_bool("", &flag, &err), WA_INVALID);
    assert_int_equal(wa_parse_bool("onn", &flag, &err), WA_INVALID);
}

static void
sizes_print_for_people(void **state)
{
    (void)state;
    char out[WA_SIZE_TEXT];
    assert_string_equal(wa_format_size(0, out), "0 B");
    assert_string_equal(wa_format_size(1023, out), "1023 B");
    assert_string_equal(wa_format_size(1024, out), "1 KiB");
    assert_string_equal(wa_format_size(1536, out), "1.5 KiB");
    assert_string_equal(wa_format_size(12288, out), "12 KiB");
    assert_string_equal(wa_format_size(10 * 1024 - 1, out), "10 KiB");
    assert_string_equal(wa_format_size(1048575, out), "1 MiB");
    assert_string_equal(wa_format_size(3ULL << 29, out), "1.5 GiB");
    assert_string_equal(wa_format_size(UINT64_MAX, out), "16 EiB");
}

static void
durations_print_for_people(void **state)
{
    (void)state;
    char out[WA_SIZE_TEXT];
    assert_string_equal(wa_format_duration_ms(0, out), "0 ms");
    assert_string_equal(wa_format_duration_ms(999, out), "999 ms");
    assert_string_equal(wa_format_duration_ms(1000, out), "1 s");
    assert_string_equal(wa_format_duration_ms(1290, out), "1.2 s");
    assert_string_equal(wa_format_duration_ms(59999, out), "59 s");
    assert_string_equal(wa_format_duration_ms(123000, out), "2 min 3 s");
    assert_string_equal(wa_format_duration_ms(7500000, out), "2 h 5 min");
    assert_string_equal(wa_format_duration_ms(90000000, out), "1 d 1 h");
    assert_non_null(wa_format_duration_ms(UINT64_MAX, out));
}

static void
the_nearest_word_is_suggested_and_a_far_one_is_not(void **state)
{
    (void)state;
    static const char *const words[] = {"backup", "restore", "archive-push", "archive-get",
                                        "s3_region"};
    size_t count = WA_ARRAY_SIZE(words);
    assert_string_equal(wa_nearest("bakcup", words, count), "backup");
    assert_string_equal(wa_nearest("Restor", words, count), "restore");
    assert_string_equal(wa_nearest("archive_get", words, count), "archive-get");
    assert_string_equal(wa_nearest("region", words, count), "s3_region");
    assert_null(wa_nearest("promote", words, count));
    assert_null(wa_nearest("", words, count));
    assert_null(wa_nearest("x", words, count));
    char longest[200];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_null(wa_nearest(longest, words, count));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_equals_null_only),
        cmocka_unit_test(prefix_and_suffix_are_found_at_the_ends_only),
        cmocka_unit_test(a_list_keeps_what_is_added_and_sorts),
        cmocka_unit_test(whole_decimal_numbers_are_parsed),
        cmocka_unit_test(anything_but_a_number_is_refused_and_the_output_stays),
        cmocka_unit_test(hex_takes_exactly_the_digits_asked_for),
        cmocka_unit_test(hex_of_bytes_and_back_is_the_identity),
        cmocka_unit_test(sizes_take_binary_units),
        cmocka_unit_test(durations_take_units_and_a_bare_number_is_seconds),
        cmocka_unit_test(switches_take_the_words_of_postgresql),
        cmocka_unit_test(sizes_print_for_people),
        cmocka_unit_test(durations_print_for_people),
        cmocka_unit_test(the_nearest_word_is_suggested_and_a_far_one_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
