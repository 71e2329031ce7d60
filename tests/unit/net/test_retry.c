/*
 * test_retry.c - what is retried, and when it ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "walagent/net/retry.h"

#include <string.h>

static wa_error
failure(wa_status status)
{
    wa_error err = WA_ERROR_INIT;
    (void)wa_error_set(&err, status, "it failed");
    return err;
}

static void
only_unavailable_is_retried(void **state)
{
    (void)state;
    for (int status = WA_NOT_FOUND; status <= WA_FAILED; status++) {
        wa_retry r;
        wa_retry_init(&r, 60000, NULL);
        wa_error err = failure((wa_status)status);
        assert_int_equal(wa_retry_again(&r, &err), status == WA_UNAVAILABLE);
        assert_string_equal(err.message, "it failed");
    }
}

static void
attempts_are_bounded_and_counted(void **state)
{
    (void)state;
    wa_retry r;
    wa_retry_init(&r, 60000, NULL);
    r.max_attempts = 3;
    wa_error err = failure(WA_UNAVAILABLE);
    assert_true(wa_retry_again(&r, &err));
    assert_true(wa_retry_again(&r, &err));
    assert_false(wa_retry_again(&r, &err));
    assert_int_equal(err.status, WA_UNAVAILABLE);
    assert_non_null(strstr(err.message, "3 attempts"));
    assert_non_null(strstr(err.message, "it failed"));
}

static void
nothing_is_tried_after_the_deadline(void **state)
{
    (void)state;
    wa_retry r;
    wa_retry_init(&r, 0, NULL);
    wa_error err = failure(WA_UNAVAILABLE);
    assert_false(wa_retry_again(&r, &err));
}

static void
retry_after_beyond_the_deadline_ends_it_at_once(void **state)
{
    (void)state;
    wa_retry r;
    wa_retry_init(&r, 5000, NULL);
    r.retry_after_ms = 20000;
    wa_error err = failure(WA_UNAVAILABLE);
    assert_false(wa_retry_again(&r, &err));
}

static void
cancel_ends_the_wait(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_cancel cancel;
    assert_int_equal(wa_cancel_init(&cancel, &err), WA_OK);
    wa_cancel_trigger(&cancel);
    wa_retry r;
    wa_retry_init(&r, 60000, &cancel);
    r.retry_after_ms = 30000;
    err = failure(WA_UNAVAILABLE);
    assert_false(wa_retry_again(&r, &err));
    assert_int_equal(err.status, WA_CANCELLED);
    wa_cancel_done(&cancel);
}

static void
an_attempt_that_the_budget_cut_short_hides_no_reason(void **state)
{
    (void)state;
    wa_retry r;
    wa_retry_init(&r, 60000, NULL);
    r.max_attempts = 3;
    wa_error err = WA_ERROR_INIT;
    (void)wa_error_set(&err, WA_UNAVAILABLE, "not S3");
    (void)wa_error_hint(&err, "Look at s3_endpoint.");
    assert_true(wa_retry_again(&r, &err));
    for (int i = 0; i < 2; i++) {
        wa_error_clear(&err);
        (void)wa_error_set(&err, WA_UNAVAILABLE, "no answer in time");
        r.cut_short = true;
        assert_int_equal(wa_retry_again(&r, &err), i == 0);
        assert_false(r.cut_short);
    }
    assert_non_null(strstr(err.message, "3 attempts"));
    assert_non_null(strstr(err.message, "not S3"));
    assert_null(strstr(err.message, "in time"));
    assert_string_equal(err.hint, "Look at s3_endpoint.");
}

static void
the_only_attempts_own_end_is_told_when_the_budget_cut_it_short(void **state)
{
    (void)state;
    wa_retry r;
    wa_retry_init(&r, 0, NULL);
    wa_error err = failure(WA_UNAVAILABLE);
    r.cut_short = true;
    assert_false(wa_retry_again(&r, &err));
    assert_non_null(strstr(err.message, "it failed"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_unavailable_is_retried),
        cmocka_unit_test(attempts_are_bounded_and_counted),
        cmocka_unit_test(nothing_is_tried_after_the_deadline),
        cmocka_unit_test(retry_after_beyond_the_deadline_ends_it_at_once),
        cmocka_unit_test(cancel_ends_the_wait),
        cmocka_unit_test(an_attempt_that_the_budget_cut_short_hides_no_reason),
        cmocka_unit_test(the_only_attempts_own_end_is_told_when_the_budget_cut_it_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
