/*
 * tests/unit/codec/container_fixture.h - what a writer with a pool writes is what one alone writes.
 */
#ifndef WALAGENT_TEST_CONTAINER_FIXTURE_H
#define WALAGENT_TEST_CONTAINER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "walagent/codec/container.h"

static void
assert_ok(wa_status status, const wa_error *err)
{
    if (status != WA_OK)
        fail_msg("%s: %s", wa_status_name(status), err->message);
}

static json_t *
facts_of_test(void)
{
    json_t *facts = json_object();
    wa_json_set_string(facts, "kind", "test");
    return facts;
}

static uint8_t *
content_of(size_t len)
{
    uint8_t *data = wa_malloc(len);
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i / 7 + i % 5);
    return data;
}

static void
write_alone(const void *data, size_t len, size_t frame, wa_buf *out)
{
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(out);
    WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;
    WA_CLEANUP(wa_json_freep) json_t *facts = facts_of_test();
    wa_error err = WA_ERROR_INIT;
    assert_ok(wa_container_writer_new(sink, NULL, 1, frame, &w, &err), &err);
    assert_ok(wa_container_write(w, data, len, &err), &err);
    assert_ok(wa_container_finish(w, facts, NULL, &err), &err);
}

static void
assert_as_written_alone(const wa_buf *object, const void *data, size_t len, size_t frame)
{
    WA_CLEANUP(wa_buf_done) wa_buf alone = WA_BUF_INIT(1 << 20);
    write_alone(data, len, frame, &alone);
    assert_int_equal(object->len, alone.len);
    assert_memory_equal(object->data, alone.data, alone.len);
}

#endif
