/*
 * tests/unit/codec/test_container_lent.c - a writer whose frames are lent waits for no worker.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "walagent/codec/container.h"

#include <string.h>

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

/* Holds the only worker until it is let go; a test that waits for the worker meanwhile fails. */
typedef struct holder {
    wa_job job;
    wa_mutex mutex;
    wa_cond cond;
    bool let_go, gave_up;
} holder;

static void
hold(wa_job *job, size_t worker)
{
    holder *h = (holder *)job;
    wa_mono deadline = wa_mono_now() + 10000;
    (void)worker;
    WA_LOCK(&h->mutex);
    while (!h->let_go && !h->gave_up)
        h->gave_up = !wa_cond_wait_until(&h->cond, &h->mutex, deadline);
}

static void
let_go(holder *h)
{
    WA_LOCK(&h->mutex);
    h->let_go = true;
    wa_cond_signal(&h->cond);
}

static void
eight_frames_are_lent_without_waiting_for_a_worker(void **state)
{
    (void)state;
    const size_t frame = 1000, len = 8 * frame + 1;
    WA_CLEANUP(wa_freep) uint8_t *data = content_of(len);
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(1 << 20), alone = WA_BUF_INIT(1 << 20);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&object);
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;
    WA_CLEANUP(wa_json_freep) json_t *facts = facts_of_test();
    wa_error err = WA_ERROR_INIT;
    holder h = {.job = {.run = hold}};

    wa_mutex_init(&h.mutex);
    wa_cond_init(&h.cond);
    assert_ok(wa_pool_new("work", 1, 16, &pool, &err), &err);
    assert_ok(wa_container_writer_new(sink, pool, 1, frame, &w, &err), &err);
    wa_pool_submit(pool, &h.job);
    assert_ok(wa_container_write_lent(w, data, 8 * frame, &err), &err);
    let_go(&h);
    assert_ok(wa_container_write(w, data + 8 * frame, 1, &err), &err);
    assert_ok(wa_container_finish(w, facts, NULL, &err), &err);
    wa_pool_wait(pool, &h.job);
    assert_false(h.gave_up);
    write_alone(data, len, frame, &alone);
    assert_int_equal(object.len, alone.len);
    assert_memory_equal(object.data, alone.data, alone.len);
    wa_cond_done(&h.cond);
    wa_mutex_done(&h.mutex);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_frames_are_lent_without_waiting_for_a_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
