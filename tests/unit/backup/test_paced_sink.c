/*
 * test_paced_sink.c - bytes go on as they are, and are waited for.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "backup_internal.h"

#include "walagent/base/time.h"
#include "walagent/store/drivers.h"
#include "walagent/store/mirror.h"

#include <string.h>

#define SECOND 1000000u

/* A byte a second and a cancel that is there: the first wait is cut short, and what is left of it
 * is hours. */
static void
what_was_written_is_waited_for(void **state)
{
    (void)state;
    enum { SIZE = 200 * 1000 };
    static char data[SIZE];
    wa_error err = WA_ERROR_INIT;
    wa_cancel cancel;
    wa_pace pace = {.rate = 1};
    WA_CLEANUP(wa_buf_done) wa_buf out = WA_BUF_INIT(SIZE);
    assert_int_equal(wa_cancel_init(&cancel, &err), WA_OK);
    wa_cancel_trigger(&cancel);
    WA_CLEANUP(wa_sink_freep)
    wa_sink *sink = wa_sink_paced(wa_sink_to_buf(&out), &pace, &cancel);
    assert_int_equal(wa_sink_write(sink, data, SIZE, &err), WA_CANCELLED);
    assert_in_range(out.len, 1, SIZE - 1);
    assert_true(pace.due_us > wa_mono_now_us() + 3600ull * SECOND);
    wa_cancel_done(&cancel);
}

static void
all_bytes_arrive_in_order(void **state)
{
    (void)state;
    enum { SIZE = 200 * 1000 };
    static unsigned char data[SIZE];
    wa_error err = WA_ERROR_INIT;
    wa_pace pace = {.rate = 1ull << 40};
    WA_CLEANUP(wa_buf_done) wa_buf out = WA_BUF_INIT(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 13);
    WA_CLEANUP(wa_sink_freep)
    wa_sink *sink = wa_sink_paced(wa_sink_to_buf(&out), &pace, NULL);
    assert_int_equal(wa_sink_write(sink, data, SIZE, &err), WA_OK);
    assert_int_equal(wa_sink_finish(sink, &err), WA_OK);
    assert_int_equal(out.len, SIZE);
    assert_memory_equal(out.data, data, SIZE);
}

static void
without_a_limit_there_is_nothing_between(void **state)
{
    (void)state;
    wa_pace none = {0};
    WA_CLEANUP(wa_buf_done) wa_buf out = WA_BUF_INIT(10);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&out);
    assert_ptr_equal(wa_sink_paced(sink, &none, NULL), sink);
}

static void
the_limit_is_of_all_copies_together(void **state)
{
    (void)state;
    WA_CLEANUP(wa_store_freep) wa_store *alone = wa_store_mem_new();
    wa_mirror mirrors[2] = {{wa_store_mem_new(), "near"}, {wa_store_mem_new(), "far"}};
    WA_CLEANUP(wa_store_freep)
    wa_store *three = wa_store_mirror_new(wa_store_mem_new(), mirrors, 2);
    assert_int_equal(wa_upload_rate(alone, 3000), 3000);
    assert_int_equal(wa_upload_rate(three, 3000), 1000);
    assert_int_equal(wa_upload_rate(three, 2), 1); /* and not none */
    assert_int_equal(wa_upload_rate(three, 0), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_waited_for),
        cmocka_unit_test(all_bytes_arrive_in_order),
        cmocka_unit_test(without_a_limit_there_is_nothing_between),
        cmocka_unit_test(the_limit_is_of_all_copies_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
