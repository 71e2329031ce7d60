/*
 * test_backlog.c - alarms about WAL that waits, as functions of numbers.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "backlog_internal.h"

static void
the_smaller_of_spool_and_slot_is_the_limit(void **state)
{
    (void)state;
    assert_int_equal(wa_backlog_limit(10, 1000, -1), 1000);
    assert_int_equal(wa_backlog_limit(10, 1000, 5000), 1000);
    assert_int_equal(wa_backlog_limit(10, 1000, 300), 310);
    assert_int_equal(wa_backlog_limit(700, 1000, 0), 700);
}

static void
each_quarter_is_a_level(void **state)
{
    (void)state;
    static const unsigned due[] = {0, 0, 1, 1, 2, 2, 3, 3, 3};
    static const uint64_t at[] = {0, 249, 250, 499, 500, 749, 750, 1000, 5000};
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++)
        assert_int_equal(wa_backlog_level(at[i], 1000, 0), due[i]);
    assert_int_equal(wa_backlog_level(0, 0, 0), 0);
}

static void
a_backlog_that_swings_around_a_boundary_is_told_once(void **state)
{
    (void)state;
    unsigned level = 0, told = 0;
    for (unsigned i = 0; i < 100; i++) {
        unsigned now = wa_backlog_level(i % 2 ? 460 : 510, 1000, level);
        told += now > level;
        level = now;
    }
    assert_int_equal(told, 1);
    assert_int_equal(level, 2);
}

static void
it_is_told_again_after_it_was_gone(void **state)
{
    (void)state;
    assert_int_equal(wa_backlog_level(449, 1000, 2), 1);
    assert_int_equal(wa_backlog_level(199, 1000, 3), 0);
    assert_int_equal(wa_backlog_level(800, 1000, 0), 3);
    assert_int_equal(wa_backlog_level(710, 1000, 3), 3);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_smaller_of_spool_and_slot_is_the_limit),
        cmocka_unit_test(each_quarter_is_a_level),
        cmocka_unit_test(a_backlog_that_swings_around_a_boundary_is_told_once),
        cmocka_unit_test(it_is_told_again_after_it_was_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
