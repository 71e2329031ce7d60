/*
 * test_pace.c - a limit in bytes per second, on a clock of our own.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "walagent/base/pace.h"

#define SECOND 1000000u

static void
the_rate_is_kept_whatever_the_pieces(void **state)
{
    (void)state;
    wa_pace p = {.rate = 1000};
    uint64_t now = 5 * SECOND;
    for (size_t sent = 0, len = 1; sent < 100000; sent += len, len = len % 977 + 1)
        now += wa_pace_after(&p, len, now);
    assert_in_range(now, 104 * SECOND, 107 * SECOND);
}

static void
after_a_pause_there_is_no_burst(void **state)
{
    (void)state;
    wa_pace p = {.rate = 1000};
    assert_int_equal(wa_pace_after(&p, 500, SECOND), SECOND / 2);
    assert_int_equal(wa_pace_after(&p, 500, 60 * SECOND), SECOND / 2);
    /* Who comes too early waits for what came before, too. */
    assert_int_equal(wa_pace_after(&p, 500, 60 * SECOND), SECOND);
}

static void
without_a_limit_nothing_waits(void **state)
{
    (void)state;
    wa_pace p = {0};
    assert_int_equal(wa_pace_after(&p, 1u << 30, SECOND), 0);
    assert_int_equal(wa_pace_after(&p, 1u << 30, SECOND), 0);
}

static void
a_wait_ends_when_cancelled(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_cancel cancel;
    wa_pace slow = {.rate = 1}, fast = {.rate = 1u << 30};
    assert_int_equal(wa_cancel_init(&cancel, &err), WA_OK);
    wa_cancel_trigger(&cancel);
    assert_int_equal(wa_pace_wait(&slow, 1u << 30, &cancel, &err), WA_CANCELLED);
    assert_int_equal(wa_pace_wait(&fast, 1, &cancel, &err), WA_CANCELLED);
    wa_cancel_done(&cancel);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rate_is_kept_whatever_the_pieces),
        cmocka_unit_test(after_a_pause_there_is_no_burst),
        cmocka_unit_test(without_a_limit_nothing_waits),
        cmocka_unit_test(a_wait_ends_when_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
