/*
 * test_time.c - times as text, RFC 3339 with its edges, and deadlines.
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "walagent/base/mem.h"
#include "walagent/base/time.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define US 1000000LL

static wa_time
parsed(const char *text)
{
    wa_error err = WA_ERROR_INIT;
    wa_time t = WA_TIME_NONE;
    if (wa_time_parse(text, 0, &t, &err) != WA_OK)
        fail_msg("%s: %s", text, err.message);
    return t;
}

static void
known_times_format_as_postgresql_prints_them(void **state)
{
    (void)state;
    char out[WA_TIME_TEXT];
    assert_string_equal(wa_time_format(0, out), "2000-01-01 00:00:00+00");
    assert_string_equal(wa_time_format(-1, out), "1999-12-31 23:59:59.999999+00");
    assert_string_equal(wa_time_format(500000, out), "2000-01-01 00:00:00.5+00");
    assert_string_equal(wa_time_format(120, out), "2000-01-01 00:00:00.00012+00");
    assert_string_equal(wa_time_format_rfc3339(500000, out), "2000-01-01T00:00:00.500000Z");
    assert_string_equal(wa_time_format_compact(0, out), "20000101T000000Z");
    assert_string_equal(wa_time_format(WA_TIME_NONE, out), "-");
    assert_string_equal(wa_time_format_rfc3339(WA_TIME_NONE, out), "-");
    assert_string_equal(wa_time_format_compact(WA_TIME_NONE, out), "-");
}

static void
the_extremes_format_within_the_buffer(void **state)
{
    (void)state;
    char out[WA_TIME_TEXT];
    assert_string_equal(wa_time_format(INT64_MAX, out), "294277-01-09 04:00:54.775807+00");
    wa_time_format_rfc3339(INT64_MIN + 1, out);
    assert_true(strlen(out) < WA_TIME_TEXT - 1);
}

/* The C library's calendar as oracle, for every day of eight hundred years. */
static void
days_agree_with_the_c_library(void **state)
{
    (void)state;
    char out[WA_TIME_TEXT];
    char expected[WA_TIME_TEXT];
    for (int64_t day = -150000; day < 150000; day++) {
        time_t seconds = (time_t)(day * 86400 + 3723 + WA_EPOCH_UNIX_SECONDS);
        struct tm tm;
        gmtime_r(&seconds, &tm);
        if (tm.tm_year + 1900 < 1000)
            continue;
        strftime(expected, sizeof expected, "%Y-%m-%d %H:%M:%S+00", &tm);
        wa_time t = (day * 86400 + 3723) * US;
        assert_string_equal(wa_time_format(t, out), expected);
        assert_int_equal(parsed(out), t);
    }
}

static void
parse_of_format_is_the_identity(void **state)
{
    (void)state;
    unsigned seed = 20261123;
    print_message("seed %u\n", seed);
    srand48((long)seed);
    for (int i = 0; i < 20000; i++) {
        char out[WA_TIME_TEXT];
        /* years 1 to 9999 */
        int64_t seconds = (int64_t)(drand48() * 315537897599.0) - 63082281600LL;
        wa_time t = seconds * US + lrand48() % US;
        assert_int_equal(parsed(wa_time_format(t, out)), t);
        assert_int_equal(parsed(wa_time_format_rfc3339(t, out)), t);
    }
}

static void
one_instant_has_many_spellings(void **state)
{
    (void)state;
    static const char *const same[] = {
        "2026-11-23 02:14:00+00",       "2026-11-23T02:14:00Z",
        "2026-11-23t02:14:00z",         "2026-11-23 02:14Z",
        "2026-11-23 02:14:00 UTC",      "2026-11-23 02:14:00.000 GMT",
        "2026-11-23T02:14:00+00:00",    "2026-11-23T02:14:00-00:00",
        "2026-11-23 07:44:00+05:30",    "2026-11-23 07:44:00+0530",
        "2026-11-22 18:14:00-08",       "2026-11-22T21:14:00.0-05:00",
        "2026-11-23T02:14:00.0000009Z", "2026-11-23 02:13:60Z",
        "2026-11-23 16:14:00+14:00",
    };
    for (size_t i = 0; i < WA_ARRAY_SIZE(same); i++)
        assert_int_equal(parsed(same[i]), 848715240LL * US);
}

static void
fractions_count_microseconds_and_drop_the_rest(void **state)
{
    (void)state;
    wa_time base = parsed("2026-11-23T02:14:00Z");
    assert_int_equal(parsed("2026-11-23T02:14:00.5Z") - base, 500000);
    assert_int_equal(parsed("2026-11-23T02:14:00.000001Z") - base, 1);
    assert_int_equal(parsed("2026-11-23T02:14:00.123456999Z") - base, 123456);
    assert_int_equal(parsed("2026-11-23T02:14:00.999999999999999999999999Z") - base, 999999);
}

static void
leap_days_exist_in_leap_years_only(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_time t = 7;
    assert_int_equal(parsed("2000-02-29T00:00Z"), 59 * 86400 * US);
    parsed("2024-02-29T00:00Z");
    assert_int_equal(wa_time_parse("1900-02-29T00:00Z", 0, &t, &err), WA_INVALID);
    assert_int_equal(wa_time_parse("2023-02-29T00:00Z", 0, &t, &err), WA_INVALID);
    assert_int_equal(t, 7);
}

static void
impossible_and_malformed_times_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "now",
        "2026",
        "2026-11-23",
        "2026-11-23Z",
        "2026-02-31 00:00:00Z",
        "2026-04-31 00:00:00Z",
        "2026-13-01 00:00:00Z",
        "2026-00-01 00:00:00Z",
        "2026-01-00 00:00:00Z",
        "0000-01-01 00:00:00Z",
        "2026-01-01 24:00:00Z",
        "2026-01-01 00:60:00Z",
        "2026-01-01 00:00:61Z",
        "2026-1-1 00:00:00Z",
        "26-01-01 00:00:00Z",
        "2026-01-01 00:00:00.Z",
        "2026-01-01 00:00:00,5Z",
        "2026-01-01  00:00:00Z",
        " 2026-01-01 00:00:00Z",
        "2026-01-01 00:00:00Z ",
        "2026-01-01 00:00:00ZZ",
        "2026-01-01 00:00:00+",
        "2026-01-01 00:00:00+5",
        "2026-01-01 00:00:00+05:",
        "2026-01-01 00:00:00+05:3",
        "2026-01-01 00:00:00+05:60",
        "2026-01-01 00:00:00+16",
        "2026-01-01 00:00:00+05:30:00",
        "2026-01-01 00:00:00 CET",
        "2026-01-01 00:00: 0Z",
        "2026-01-01 00:00:00 ",
        "20260101T000000Z",
        "-",
        "-10 minutes",
        "--10min",
        "-200000000d",
    };
    wa_error err = WA_ERROR_INIT;
    for (size_t i = 0; i < WA_ARRAY_SIZE(bad); i++) {
        wa_time t = 77;
        wa_status status = wa_time_parse(bad[i], 0, &t, &err);
        if (status != WA_INVALID)
            fail_msg("\"%s\" was accepted", bad[i]);
        assert_int_equal(t, 77);
        assert_string_not_equal(err.hint, "");
    }
}

static void
a_time_without_a_zone_is_refused_with_both_readings(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_time t = 77;
    setenv("TZ", "<+0530>-05:30", 1);
    tzset();
    assert_int_equal(wa_time_parse("2026-11-23 02:14:00", 0, &t, &err), WA_INVALID);
    assert_string_equal(err.message, "time \"2026-11-23 02:14:00\" has no zone");
    assert_non_null(strstr(err.hint, "\"2026-11-23 02:14:00+00\""));
    assert_non_null(strstr(err.hint, "\"2026-11-23 02:14:00+05:30\""));
    assert_int_equal(t, 77);
    setenv("TZ", "EST5EDT,M3.2.0,M11.1.0", 1);
    tzset();
    assert_int_equal(wa_time_parse("2026-07-01T12:00", 0, &t, &err), WA_INVALID);
    assert_non_null(strstr(err.hint, "\"2026-07-01T12:00-04:00\""));
    unsetenv("TZ");
    tzset();
}

static void
relative_times_count_back_from_now(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_time t = 0;
    assert_int_equal(wa_time_parse("-10min", 1000 * US, &t, &err), WA_OK);
    assert_int_equal(t, 400 * US);
    assert_int_equal(wa_time_parse("-500ms", 0, &t, &err), WA_OK);
    assert_int_equal(t, -500000);
    assert_int_equal(wa_time_parse("-1s", WA_TIME_NONE + 10, &t, &err), WA_INVALID);
}

static void
unix_time_converts_both_ways_and_saturates(void **state)
{
    (void)state;
    assert_int_equal(wa_time_to_unix_us(0), 946684800LL * US);
    assert_int_equal(wa_time_from_unix_us(0), -946684800LL * US);
    assert_int_equal(wa_time_from_unix_us(wa_time_to_unix_us(123456789)), 123456789);
    assert_true(wa_time_to_unix_us(INT64_MAX) == INT64_MAX);
    assert_true(wa_time_from_unix_us(INT64_MIN) != WA_TIME_NONE);
}

static void
deadlines_never_leave_the_range_of_poll(void **state)
{
    (void)state;
    assert_int_equal(wa_mono_left(0), 0);
    assert_int_equal(wa_mono_left(UINT64_MAX), INT_MAX);
    wa_mono deadline = wa_mono_now() + 1000000;
    int left = wa_mono_left(deadline);
    assert_true(left > 0 && left <= 1000000);
    wa_mono first = wa_mono_now();
    assert_true(wa_mono_now() >= first);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_times_format_as_postgresql_prints_them),
        cmocka_unit_test(the_extremes_format_within_the_buffer),
        cmocka_unit_test(days_agree_with_the_c_library),
        cmocka_unit_test(parse_of_format_is_the_identity),
        cmocka_unit_test(one_instant_has_many_spellings),
        cmocka_unit_test(fractions_count_microseconds_and_drop_the_rest),
        cmocka_unit_test(leap_days_exist_in_leap_years_only),
        cmocka_unit_test(impossible_and_malformed_times_are_refused),
        cmocka_unit_test(a_time_without_a_zone_is_refused_with_both_readings),
        cmocka_unit_test(relative_times_count_back_from_now),
        cmocka_unit_test(unix_time_converts_both_ways_and_saturates),
        cmocka_unit_test(deadlines_never_leave_the_range_of_poll),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
