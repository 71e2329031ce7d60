/*
 * test_buf.c - the capped buffer.
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "walagent/base/buf.h"

#include <stdlib.h>
#include <string.h>

static void
an_empty_buffer_reads_as_the_empty_string(void **state)
{
    (void)state;
    wa_buf buf = WA_BUF_INIT(10);
    assert_string_equal(wa_buf_str(&buf), "");
    char *text = wa_buf_detach(&buf);
    assert_string_equal(text, "");
    free(text);
}

static void
a_buffer_can_be_filled_to_its_cap_and_not_past_it(void **state)
{
    (void)state;
    for (size_t max = 0; max < 300; max++) {
        WA_CLEANUP(wa_buf_done) wa_buf buf = WA_BUF_INIT(max);
        wa_error err = WA_ERROR_INIT;
        for (size_t i = 0; i < max; i++)
            assert_int_equal(wa_buf_append(&buf, "x", 1, &err), WA_OK);
        assert_int_equal(wa_buf_append(&buf, "y", 1, &err), WA_NO_SPACE);
        assert_int_equal(buf.len, max);
        assert_int_equal(strlen(wa_buf_str(&buf)), max);
        assert_null(strchr(wa_buf_str(&buf), 'y'));
    }
}

static void
the_length_of_an_append_cannot_overflow(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf buf = WA_BUF_INIT(SIZE_MAX);
    wa_error err = WA_ERROR_INIT;
    wa_buf_puts(&buf, "abc");
    assert_int_equal(wa_buf_reserve(&buf, SIZE_MAX - 3, &err), WA_NO_SPACE);
    assert_int_equal(wa_buf_reserve(&buf, SIZE_MAX, &err), WA_NO_SPACE);
    assert_string_equal(wa_buf_str(&buf), "abc");
}

static void
appended_text_comes_out_in_order(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf buf = WA_BUF_INIT(1000);
    wa_buf_puts(&buf, "a");
    wa_buf_putc(&buf, 'b');
    wa_buf_printf(&buf, "%d-%s", 42, "c");
    wa_buf_add(&buf, "\0d", 2);
    assert_int_equal(buf.len, 8);
    assert_memory_equal(buf.data, "ab42-c\0d", 9);
}

static void
printf_grows_the_buffer_when_it_must(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf buf = WA_BUF_INIT(100000);
    for (int i = 0; i < 1000; i++)
        wa_buf_printf(&buf, "%05d,", i);
    assert_int_equal(buf.len, 6000);
    assert_string_equal(buf.data + 5994, "00999,");
}

static void
consume_drops_the_first_bytes(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf buf = WA_BUF_INIT(100);
    wa_buf_consume(&buf, 0);
    wa_buf_puts(&buf, "hello world");
    wa_buf_consume(&buf, 6);
    assert_string_equal(wa_buf_str(&buf), "world");
    wa_buf_consume(&buf, 5);
    assert_string_equal(wa_buf_str(&buf), "");
}

static void
reset_and_detach_leave_an_empty_buffer_that_works(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf buf = WA_BUF_INIT(100);
    wa_buf_puts(&buf, "one");
    wa_buf_reset(&buf);
    assert_string_equal(wa_buf_str(&buf), "");
    wa_buf_puts(&buf, "two");
    WA_CLEANUP(wa_freep) char *text = wa_buf_detach(&buf);
    assert_string_equal(text, "two");
    assert_int_equal(buf.len, 0);
    assert_int_equal(buf.max, 100);
    wa_buf_puts(&buf, "three");
    assert_string_equal(wa_buf_str(&buf), "three");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_buffer_reads_as_the_empty_string),
        cmocka_unit_test(a_buffer_can_be_filled_to_its_cap_and_not_past_it),
        cmocka_unit_test(the_length_of_an_append_cannot_overflow),
        cmocka_unit_test(appended_text_comes_out_in_order),
        cmocka_unit_test(printf_grows_the_buffer_when_it_must),
        cmocka_unit_test(consume_drops_the_first_bytes),
        cmocka_unit_test(reset_and_detach_leave_an_empty_buffer_that_works),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
