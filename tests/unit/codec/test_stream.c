/*
 * Tests of sinks and ranges.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "walagent/base/file.h"
#include "walagent/codec/stream.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void
a_full_buffer_refuses_more(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf buf = WA_BUF_INIT(5);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&buf);
    wa_error err = WA_ERROR_INIT;

    assert_int_equal(wa_sink_write(sink, "abc", 3, &err), WA_OK);
    assert_int_equal(wa_sink_write(sink, "def", 3, &err), WA_NO_SPACE);
    assert_string_equal(wa_buf_str(&buf), "abc");
    assert_int_equal(wa_sink_write(sink, "de", 2, &err), WA_OK);
    assert_int_equal(wa_sink_finish(sink, &err), WA_OK);
    assert_string_equal(wa_buf_str(&buf), "abcde");
}

static void
fixed_memory_takes_its_size_and_names_what_held_more(void **state)
{
    (void)state;
    char out[6] = "-----";
    size_t filled = 99;
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_memory(out, 4, &filled, "key/of/it");
    wa_error err = WA_ERROR_INIT;

    assert_int_equal(filled, 0);
    assert_int_equal(wa_sink_write(sink, "abc", 3, &err), WA_OK);
    assert_int_equal(wa_sink_write(sink, "de", 2, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, "\"key/of/it\""));
    assert_int_equal(filled, 3);
    assert_int_equal(wa_sink_write(sink, "d", 1, &err), WA_OK);
    assert_int_equal(wa_sink_finish(sink, &err), WA_OK);
    assert_int_equal(filled, 4);
    assert_string_equal(out, "abcd-");
}

static void
ranges_past_the_end_are_corrupt(void **state)
{
    (void)state;
    WA_CLEANUP(wa_ranges_freep) wa_ranges *r = wa_ranges_of_memory("0123456789", 10, "ten");
    wa_error err = WA_ERROR_INIT;
    char out[11] = "----------";

    assert_int_equal(wa_ranges_read(r, 8, out, 3, &err), WA_CORRUPT);
    assert_int_equal(wa_ranges_read(r, 11, out, 0, &err), WA_CORRUPT);
    assert_int_equal(wa_ranges_read(r, UINT64_MAX, out, 2, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, "\"ten\""));
    assert_string_equal(out, "----------");
    assert_int_equal(wa_ranges_read(r, 10, out, 0, &err), WA_OK);
    assert_int_equal(wa_ranges_read(r, 7, out, 3, &err), WA_OK);
    assert_string_equal(out, "789-------");
}

static void
a_file_written_by_a_sink_is_read_by_ranges(void **state)
{
    (void)state;
    char path[] = "/tmp/walagent-test-XXXXXX", out[4] = "";
    WA_CLEANUP(wa_closep) int fd = mkstemp(path);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_fd(fd, path);
    WA_CLEANUP(wa_ranges_freep) wa_ranges *r = NULL;
    wa_error err = WA_ERROR_INIT;

    assert_int_equal(wa_sink_write(sink, "hello ", 6, &err), WA_OK);
    assert_int_equal(wa_sink_write(sink, "world", 5, &err), WA_OK);
    assert_int_equal(wa_ranges_of_file(path, &r, &err), WA_OK);
    assert_int_equal(r->size, 11);
    assert_int_equal(wa_ranges_read(r, 5, out, 3, &err), WA_OK);
    assert_string_equal(out, " wo");
    /* a file that shrinks after it was opened */
    assert_int_equal(ftruncate(fd, 4), 0);
    assert_int_equal(wa_ranges_read(r, 5, out, 3, &err), WA_CORRUPT);
    unlink(path);
}

static void
ranges_of_memory_tell_where_it_lies_and_nothing_past_its_end(void **state)
{
    (void)state;
    static const char ten[] = "0123456789";
    char path[] = "/tmp/wa-stream-XXXXXX";
    WA_CLEANUP(wa_closep) int fd = mkstemp(path);
    WA_CLEANUP(wa_ranges_freep) wa_ranges *memory = wa_ranges_of_memory(ten, 10, "ten");
    WA_CLEANUP(wa_ranges_freep) wa_ranges *file = NULL;
    wa_error err = WA_ERROR_INIT;

    assert_ptr_equal(wa_ranges_in_memory(memory, 3, 7), ten + 3);
    assert_null(wa_ranges_in_memory(memory, 3, 8));
    assert_null(wa_ranges_in_memory(memory, 11, 0));
    assert_null(wa_ranges_in_memory(memory, UINT64_MAX, 2));
    assert_int_equal(write(fd, ten, 10), 10);
    assert_int_equal(wa_ranges_of_file(path, &file, &err), WA_OK);
    assert_null(wa_ranges_in_memory(file, 3, 7));
    unlink(path);
}

static void
a_missing_file_is_not_found_and_a_directory_is_refused(void **state)
{
    (void)state;
    wa_ranges *r = NULL;
    wa_error err = WA_ERROR_INIT;

    assert_int_equal(wa_ranges_of_file("/nonexistent/file", &r, &err), WA_NOT_FOUND);
    assert_int_equal(wa_ranges_of_file("/tmp", &r, &err), WA_INVALID);
    assert_null(r);
}

static void
writing_to_a_descriptor_that_is_not_open_for_it_fails(void **state)
{
    (void)state;
    WA_CLEANUP(wa_closep) int fd = open("/dev/null", O_RDONLY);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_fd(fd, "null");
    wa_error err = WA_ERROR_INIT;

    assert_int_equal(wa_sink_write(sink, "x", 1, &err), WA_IO);
    assert_non_null(strstr(err.message, "null"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_buffer_refuses_more),
        cmocka_unit_test(fixed_memory_takes_its_size_and_names_what_held_more),
        cmocka_unit_test(ranges_past_the_end_are_corrupt),
        cmocka_unit_test(a_file_written_by_a_sink_is_read_by_ranges),
        cmocka_unit_test(ranges_of_memory_tell_where_it_lies_and_nothing_past_its_end),
        cmocka_unit_test(a_missing_file_is_not_found_and_a_directory_is_refused),
        cmocka_unit_test(writing_to_a_descriptor_that_is_not_open_for_it_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
