/*
 * Unit tests of pg/timeline.c: history files as PostgreSQL writes them, and damaged ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "walagent/pg/timeline.h"

#include <stdio.h>
#include <string.h>

static const char chain[] = "1\t0/3000060\tno recovery target specified\n"
                            "\n"
                            "# a comment\n"
                            "2\t0/5000000\tbefore 2026-11-23 02:14:00+00\n"
                            "5\t1/A0\n";

static wa_history *
parse(wa_tli tli, const char *text)
{
    wa_error err = WA_ERROR_INIT;
    wa_history *h = NULL;

    assert_int_equal(wa_history_parse(tli, text, strlen(text), &h, &err), WA_OK);
    assert_non_null(h);
    return h;
}

static void
history_gives_chain_and_switch_points(void **state)
{
    (void)state;
    WA_CLEANUP(wa_history_freep) wa_history *h = parse(10, chain);

    assert_int_equal(h->tli, 10);
    assert_int_equal(h->count, 3);
    assert_true(wa_history_has(h, 1) && wa_history_has(h, 5) && wa_history_has(h, 10));
    assert_false(wa_history_has(h, 3));
    assert_true(wa_history_end_of(h, 2) == 0x5000000);
    assert_true(wa_history_end_of(h, 10) == 0);
    assert_true(wa_history_begin(h) == 0x1000000A0);
    assert_int_equal(wa_history_parent(h), 5);
}

static void
a_byte_belongs_to_one_timeline(void **state)
{
    (void)state;
    WA_CLEANUP(wa_history_freep) wa_history *h = parse(10, chain);

    assert_int_equal(wa_history_tli_at(h, 0x300005F), 1);
    assert_int_equal(wa_history_tli_at(h, 0x3000060), 2);
    assert_int_equal(wa_history_tli_at(h, 0x5000000), 5);
    assert_int_equal(wa_history_tli_at(h, 0x10000009F), 5);
    assert_int_equal(wa_history_tli_at(h, 0x1000000A0), 10);
    assert_int_equal(wa_history_tli_at(h, UINT64_MAX), 10);
}

static void
timeline_1_has_an_empty_history(void **state)
{
    (void)state;
    WA_CLEANUP(wa_history_freep) wa_history *h = parse(1, "");

    assert_int_equal(h->count, 0);
    assert_int_equal(wa_history_parent(h), 0);
    assert_true(wa_history_begin(h) == 0);
    assert_int_equal(wa_history_tli_at(h, 77), 1);
}

static void
a_timeline_may_be_left_where_it_began(void **state)
{
    (void)state;
    WA_CLEANUP(wa_history_freep) wa_history *h = parse(3, "1\t0/30\tx\r\n2\t0/30\ty");

    assert_int_equal(h->count, 2);
    assert_int_equal(wa_history_tli_at(h, 0x30), 3);
}

static void
damaged_histories_are_corrupt(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",                            /* no parent */
        "# only a comment\n",          /* no parent either */
        "x\t0/30\tno number\n",        /* no timeline */
        "1\t030\tno slash\n",          /* no LSN */
        "1\t0/\tno low part\n",        /* no LSN */
        "1 0/30x\n",                   /* garbage behind the LSN */
        "1\t0/123456789\ttoo long\n",  /* more than 32 bits */
        "4294967296\t0/30\ttoo large", /* more than 32 bits */
        "0\t0/30\tzero\n",             /* no such timeline */
        "2\t0/30\tx\n1\t0/40\ty\n",    /* not in order */
        "1\t0/30\tx\n1\t0/40\ty\n",    /* twice */
        "1\t0/40\tx\n2\t0/30\ty\n",    /* goes back */
        "9\t0/30\tx\n",                /* its own ancestor */
        "10\t0/30\tx\n",               /* a descendant */
    };
    for (size_t i = 0; i < WA_ARRAY_SIZE(bad); i++) {
        wa_error err = WA_ERROR_INIT;
        wa_history *h = NULL;
        assert_int_equal(wa_history_parse(9, bad[i], strlen(bad[i]), &h, &err), WA_CORRUPT);
        assert_null(h);
        assert_true(err.message[0] != '\0');
    }
}

static void
a_corrupt_line_is_named(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_history *h = NULL;
    static const char text[] = "1\t0/30\tx\n\nrubbish\n";

    assert_int_equal(wa_history_parse(3, text, strlen(text), &h, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, "line 3"));
}

static void
a_chain_of_hundreds_is_read(void **state)
{
    (void)state;
    static char text[64 * 1024];
    size_t len = 0;

    for (int i = 1; i <= 700; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%d\t%X/%X\tr\n", i, i / 100, i);
    WA_CLEANUP(wa_history_freep) wa_history *h = parse(701, text);
    assert_int_equal(h->count, 700);
    for (wa_tli i = 1; i <= 700; i++)
        assert_true(wa_history_end_of(h, i) == ((uint64_t)(i / 100) << 32 | i));
}

static void
history_file_names_are_upper_case(void **state)
{
    (void)state;
    char name[WA_SEGMENT_NAME];
    wa_tli tli = 0;

    assert_string_equal(wa_history_name(0xAB, name), "000000AB.history");
    assert_true(wa_history_name_parse(name, &tli));
    assert_int_equal(tli, 0xAB);
    assert_false(wa_history_name_parse("000000ab.history", &tli));
    assert_false(wa_history_name_parse("00000000.history", &tli));
    assert_false(wa_history_name_parse("000000AB.history.tmp", &tli));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(history_gives_chain_and_switch_points),
        cmocka_unit_test(a_byte_belongs_to_one_timeline),
        cmocka_unit_test(timeline_1_has_an_empty_history),
        cmocka_unit_test(a_timeline_may_be_left_where_it_began),
        cmocka_unit_test(damaged_histories_are_corrupt),
        cmocka_unit_test(a_corrupt_line_is_named),
        cmocka_unit_test(a_chain_of_hundreds_is_read),
        cmocka_unit_test(history_file_names_are_upper_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
