/*
 * test_log.c - what lines look like in the three formats, on a pipe in place of standard error.
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "walagent/base/log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int saved = -1;
static int reader = -1;

static int
catch_standard_error(void **state)
{
    (void)state;
    int fds[2];
    if (pipe(fds) != 0)
        return -1;
    saved = dup(STDERR_FILENO);
    if (saved < 0 || dup2(fds[1], STDERR_FILENO) < 0)
        return -1;
    close(fds[1]);
    reader = fds[0];
    return 0;
}

static int
release_standard_error(void **state)
{
    (void)state;
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(reader);
    wa_log_setup(WA_LOG_INFO, WA_LOG_TEXT);
    return 0;
}

/* What was logged, in a buffer that lives until the next call. */
static const char *
logged(void)
{
    static char text[65536];
    ssize_t got = read(reader, text, sizeof text - 1);
    assert_true(got > 0);
    text[got] = '\0';
    return text;
}

static void
text_lines_carry_time_pid_and_level(void **state)
{
    (void)state;
    int pid = 0;
    int year = 0;
    wa_log_setup(WA_LOG_INFO, WA_LOG_TEXT);
    wa_log(WA_LOG_INFO, "hello %d", 5);
    const char *line = logged();
    assert_int_equal(sscanf(line, "%d-%*d-%*d %*d:%*d:%*d.%*d UTC [%d] LOG:", &year, &pid), 2);
    assert_true(year >= 2024);
    assert_int_equal(pid, getpid());
    assert_string_equal(strstr(line, "LOG:"), "LOG:  hello 5\n");
}

static void
an_error_has_its_hint_on_a_line_of_its_own(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_error_set(&err, WA_DENIED, "access denied");
    wa_error_hint(&err, "Check the key.");
    wa_log_setup(WA_LOG_INFO, WA_LOG_TEXT);
    wa_log_error(WA_LOG_ERROR, &err, "could not archive \"%s\"", "seg");
    const char *text = logged();
    assert_non_null(strstr(text, "] ERROR:  could not archive \"seg\": access denied\n"));
    assert_non_null(strstr(text, "] HINT:  Check the key.\n"));
    assert_string_equal(err.message, "access denied");
    wa_log_error(WA_LOG_WARNING, &err, NULL);
    assert_non_null(strstr(logged(), "] WARNING:  access denied\n"));
}

static void
a_message_cannot_pose_as_another_line(void **state)
{
    (void)state;
    wa_log_setup(WA_LOG_INFO, WA_LOG_TEXT);
    wa_log(WA_LOG_INFO, "%s", "a\nERROR: forged\x1b[2J");
    const char *text = logged();
    assert_non_null(strstr(text, "LOG:  a\n\tERROR: forged?[2J\n"));
    wa_log_setup(WA_LOG_INFO, WA_LOG_LOGFMT);
    wa_log(WA_LOG_INFO, "%s", "a\nb");
    text = logged();
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void
json_escapes_what_json_cannot_hold(void **state)
{
    (void)state;
    wa_log_setup(WA_LOG_INFO, WA_LOG_JSON);
    wa_log(WA_LOG_WARNING, "%s",
           "q\" b\\ n\n t\t \x01 \xc3\xa9 \xff \xed\xa0\x80 \xc0\xaf \xe2\x82");
    const char *line = logged();
    assert_non_null(strstr(line, "\"level\":\"warning\""));
    assert_non_null(strstr(line, "\"message\":\"q\\\" b\\\\ n\\n t\\u0009 \\u0001 \xc3\xa9 \\ufffd "
                                 "\\ufffd\\ufffd\\ufffd \\ufffd\\ufffd \\ufffd\\ufffd\"}\n"));
}

static void
logfmt_puts_hint_behind_the_message(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_error_set(&err, WA_DENIED, "no");
    wa_error_hint(&err, "do");
    wa_log_setup(WA_LOG_INFO, WA_LOG_LOGFMT);
    wa_log_error(WA_LOG_ERROR, &err, NULL);
    const char *line = logged();
    assert_memory_equal(line, "time=2", 6);
    assert_non_null(strstr(line, " level=error "));
    assert_non_null(strstr(line, " msg=\"no\" hint=\"do\"\n"));
}

static void
lines_below_the_level_are_neither_written_nor_counted(void **state)
{
    (void)state;
    char message[100];
    long long when = 0;
    wa_log_setup(WA_LOG_WARNING, WA_LOG_TEXT);
    unsigned long notices = wa_log_count(WA_LOG_NOTICE);
    unsigned long warnings = wa_log_count(WA_LOG_WARNING);
    wa_log(WA_LOG_NOTICE, "unseen");
    wa_log(WA_LOG_WARNING, "seen");
    assert_null(strstr(logged(), "unseen"));
    assert_int_equal(wa_log_count(WA_LOG_NOTICE), notices);
    assert_int_equal(wa_log_count(WA_LOG_WARNING), warnings + 1);
    assert_true(wa_log_last(WA_LOG_WARNING, message, sizeof message, &when));
    assert_string_equal(message, "seen");
    assert_true(when > 0);
    assert_false(wa_log_last(WA_LOG_DEBUG, message, sizeof message, &when));
}

static void
a_message_that_is_too_long_is_cut_visibly(void **state)
{
    (void)state;
    char text[10000];
    memset(text, 1, sizeof text - 1); /* the longest when escaped */
    text[sizeof text - 1] = '\0';
    wa_log_setup(WA_LOG_INFO, WA_LOG_JSON);
    wa_log(WA_LOG_INFO, "%s", text);
    const char *line = logged();
    assert_non_null(strstr(line, "\\u0001...\"}\n"));
}

#define caught(test)                                                                               \
    cmocka_unit_test_setup_teardown(test, catch_standard_error, release_standard_error)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        caught(text_lines_carry_time_pid_and_level),
        caught(an_error_has_its_hint_on_a_line_of_its_own),
        caught(a_message_cannot_pose_as_another_line),
        caught(json_escapes_what_json_cannot_hold),
        caught(logfmt_puts_hint_behind_the_message),
        caught(lines_below_the_level_are_neither_written_nor_counted),
        caught(a_message_that_is_too_long_is_cut_visibly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
