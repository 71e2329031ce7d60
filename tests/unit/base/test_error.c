/*
 * test_error.c - statuses, messages and hints.
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "walagent/base/error.h"

#include <errno.h>
#include <string.h>

static void
set_fills_status_and_message_and_clears_the_hint(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_error_hint(&err, "old hint");
    assert_int_equal(wa_error_set(&err, WA_CORRUPT, "page %d is torn", 7), WA_CORRUPT);
    assert_int_equal(err.status, WA_CORRUPT);
    assert_string_equal(err.message, "page 7 is torn");
    assert_string_equal(err.hint, "");
}

static void
errno_decides_the_status(void **state)
{
    (void)state;
    static const struct {
        int errnum;
        wa_status status;
    } cases[] = {
        {ENOENT, WA_NOT_FOUND},
        {EEXIST, WA_EXISTS},
        {EACCES, WA_DENIED},
        {EPERM, WA_DENIED},
        {EROFS, WA_DENIED},
        {ENOSPC, WA_NO_SPACE},
        {EDQUOT, WA_NO_SPACE},
        {ECANCELED, WA_CANCELLED},
        {ETIMEDOUT, WA_UNAVAILABLE},
        {ECONNREFUSED, WA_UNAVAILABLE},
        {ECONNRESET, WA_UNAVAILABLE},
        {EHOSTUNREACH, WA_UNAVAILABLE},
        {EIO, WA_IO},
        {EBADF, WA_IO},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        wa_error err = WA_ERROR_INIT;
        assert_int_equal(wa_error_errno(&err, cases[i].errnum, "x"), cases[i].status);
        assert_int_equal(err.status, cases[i].status);
    }
}

static void
percent_m_prints_the_errno_that_was_passed(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    errno = EBADF;
    wa_error_errno(&err, ENOENT, "could not open file \"%s\": %m", "f");
    assert_string_equal(err.message, "could not open file \"f\": No such file or directory");
}

static void
wrap_puts_the_task_before_the_message_and_keeps_status_and_hint(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_error_set(&err, WA_DENIED, "access denied");
    wa_error_hint(&err, "Check the key.");
    assert_int_equal(wa_error_wrap(&err, "could not archive \"%s\"", "seg"), WA_DENIED);
    assert_string_equal(err.message, "could not archive \"seg\": access denied");
    assert_string_equal(err.hint, "Check the key.");
}

static void
a_message_may_be_made_from_the_one_it_replaces(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_error_set(&err, WA_IO, "inner");
    wa_error_set(&err, WA_FAILED, "outer (%s)", err.message);
    assert_string_equal(err.message, "outer (inner)");
}

static void
text_that_is_too_long_ends_in_three_dots(void **state)
{
    (void)state;
    char text[2 * WA_ERROR_MESSAGE_SIZE];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    wa_error err = WA_ERROR_INIT;
    wa_error_set(&err, WA_IO, "%s", text);
    assert_int_equal(strlen(err.message), WA_ERROR_MESSAGE_SIZE - 1);
    assert_string_equal(err.message + WA_ERROR_MESSAGE_SIZE - 4, "...");
    wa_error_hint(&err, "%s", text);
    assert_string_equal(err.hint + WA_ERROR_HINT_SIZE - 4, "...");
    wa_error_set(&err, WA_IO, "short");
    wa_error_wrap(&err, "%s", text);
    assert_string_equal(err.message + WA_ERROR_MESSAGE_SIZE - 4, "...");
}

static void
text_that_just_fits_is_whole(void **state)
{
    (void)state;
    char text[WA_ERROR_MESSAGE_SIZE];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    wa_error err = WA_ERROR_INIT;
    wa_error_set(&err, WA_IO, "%s", text);
    assert_string_equal(err.message, text);
}

static void
clear_leaves_no_error(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_error_set(&err, WA_IO, "x");
    wa_error_hint(&err, "y");
    wa_error_clear(&err);
    assert_int_equal(err.status, WA_OK);
    assert_string_equal(err.message, "");
    assert_string_equal(err.hint, "");
}

static void
every_status_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (int a = WA_OK; a <= WA_FAILED; a++)
        for (int b = WA_OK; b < a; b++)
            assert_string_not_equal(wa_status_name((wa_status)a), wa_status_name((wa_status)b));
    assert_string_equal(wa_status_name(WA_NOT_FOUND), "not found");
    assert_string_equal(wa_status_name(WA_UNAVAILABLE), "unavailable");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_fills_status_and_message_and_clears_the_hint),
        cmocka_unit_test(errno_decides_the_status),
        cmocka_unit_test(percent_m_prints_the_errno_that_was_passed),
        cmocka_unit_test(wrap_puts_the_task_before_the_message_and_keeps_status_and_hint),
        cmocka_unit_test(a_message_may_be_made_from_the_one_it_replaces),
        cmocka_unit_test(text_that_is_too_long_ends_in_three_dots),
        cmocka_unit_test(text_that_just_fits_is_whole),
        cmocka_unit_test(clear_leaves_no_error),
        cmocka_unit_test(every_status_has_a_name_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
