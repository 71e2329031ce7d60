/*
 * test_event.c - news from a library for whoever called it.
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "walagent/base/event.h"

#include <stdio.h>
#include <string.h>

typedef struct heard {
    int times;
    wa_log_level level;
    char message[1024], hint[64];
} heard;

static void
hear(void *arg, wa_log_level level, const char *message, const char *hint)
{
    heard *h = arg;
    h->times++;
    h->level = level;
    snprintf(h->message, sizeof h->message, "%s", message);
    snprintf(h->hint, sizeof h->hint, "%s", hint);
}

static void
the_listener_hears_level_message_and_hint(void **state)
{
    (void)state;
    heard h = {0};
    wa_listener listener = {hear, &h};

    wa_say(&listener, WA_LOG_WARNING, "Do this.", "%d of %s", 3, "four");
    assert_int_equal(h.times, 1);
    assert_int_equal(h.level, WA_LOG_WARNING);
    assert_string_equal(h.message, "3 of four");
    assert_string_equal(h.hint, "Do this.");
    wa_say(&listener, WA_LOG_NOTICE, NULL, "no hint");
    assert_int_equal(h.times, 2);
    assert_string_equal(h.hint, "");
}

static void
a_long_message_is_cut_and_ends(void **state)
{
    (void)state;
    heard h = {0};
    wa_listener listener = {hear, &h};
    char text[800];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';

    wa_say(&listener, WA_LOG_INFO, NULL, "%s", text);
    assert_int_equal(strlen(h.message), 511);
}

static void
without_a_function_nothing_is_said(void **state)
{
    (void)state;
    wa_listener nobody = {0};
    wa_say(&nobody, WA_LOG_ERROR, NULL, "into the void");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_listener_hears_level_message_and_hint),
        cmocka_unit_test(a_long_message_is_cut_and_ends),
        cmocka_unit_test(without_a_function_nothing_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
