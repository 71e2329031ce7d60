/*
 * tests/unit/codec/test_container_lent.c - a writer whose frames are lent waits for no worker as
 * long as it has room.
 */
#include "container_fixture.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

static bool
is_let_go(holder *h)
{
    WA_LOCK(&h->mutex);
    return h->let_go;
}

/* Behind let_go(). */
static void
end_hold(holder *h, wa_pool *pool)
{
    wa_pool_wait(pool, &h->job);
    assert_false(h->gave_up);
    wa_cond_done(&h->cond);
    wa_mutex_done(&h->mutex);
}

static void
eight_frames_are_lent_without_waiting_for_a_worker(void **state)
{
    (void)state;
    const size_t frame = 1000, len = 8 * frame + 1;
    WA_CLEANUP(wa_freep) uint8_t *data = content_of(len);
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(1 << 20);
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
    end_hold(&h, pool);
    assert_as_written_alone(&object, data, len, frame);
}

/* The state of a thread of this process, as proc(5) has it. */
static char
state_of(pid_t thread)
{
    char path[64], text[512] = "";
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)thread);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    (void)fclose(file);
    const char *name_end = strrchr(text, ')');
    assert_non_null(name_end);
    return name_end[2];
}

typedef struct watch {
    holder *h;
    pid_t writer;
    pthread_t thread;
} watch;

/* The worker is held for as long as the writer goes on without it. */
static void *
let_go_when_the_writer_waits(void *arg)
{
    watch *w = arg;
    wa_mono deadline = wa_mono_now() + 5000;
    while (state_of(w->writer) != 'S' && !is_let_go(w->h) && wa_mono_left(deadline) > 0)
        (void)sched_yield();
    let_go(w->h);
    return NULL;
}

static void
begin_watch(watch *w, holder *h)
{
    wa_error err = WA_ERROR_INIT;
    *w = (watch){.h = h, .writer = gettid()};
    assert_ok(wa_thread_start(&w->thread, "watch", let_go_when_the_writer_waits, w, &err), &err);
}

static void
end_watch(watch *w)
{
    let_go(w->h);
    wa_thread_join(w->thread);
}

/* None of them may take the place of one that a worker has not compressed yet. */
static void
more_frames_than_there_is_room_for_wait_for_the_worker(void **state)
{
    (void)state;
    const size_t frame = 1000, len = 40 * frame;
    WA_CLEANUP(wa_freep) uint8_t *data = content_of(len);
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(1 << 20);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&object);
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;
    WA_CLEANUP(wa_json_freep) json_t *facts = facts_of_test();
    wa_error err = WA_ERROR_INIT;
    holder h = {.job = {.run = hold}};
    watch watching;

    wa_mutex_init(&h.mutex);
    wa_cond_init(&h.cond);
    assert_ok(wa_pool_new("work", 1, 64, &pool, &err), &err);
    assert_ok(wa_container_writer_new(sink, pool, 1, frame, &w, &err), &err);
    wa_pool_submit(pool, &h.job);
    begin_watch(&watching, &h);
    assert_ok(wa_container_write_lent(w, data, len, &err), &err);
    end_watch(&watching);
    assert_ok(wa_container_finish(w, facts, NULL, &err), &err);
    end_hold(&h, pool);
    assert_as_written_alone(&object, data, len, frame);
}

static uint64_t
stored_size_of(const void *data, size_t len, size_t frame)
{
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(1 << 20);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&object);
    WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;
    wa_error err = WA_ERROR_INIT;
    assert_ok(wa_container_writer_new(sink, NULL, 1, frame, &w, &err), &err);
    assert_ok(wa_container_write(w, data, len, &err), &err);
    return wa_container_stored_size(w);
}

/* workers + 2 frames in memory, this one among them: of eight that were lent six are written. */
static void
room_for_a_frame_waits_for_all_that_its_memory_depends_on(void **state)
{
    (void)state;
    const size_t frame = 1000, len = 8 * frame;
    WA_CLEANUP(wa_freep) uint8_t *data = content_of(len);
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(1 << 20);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&object);
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;
    wa_error err = WA_ERROR_INIT;
    holder h = {.job = {.run = hold}};
    watch watching;
    void *room = NULL;
    size_t room_len = 0;

    wa_mutex_init(&h.mutex);
    wa_cond_init(&h.cond);
    assert_ok(wa_pool_new("work", 1, 64, &pool, &err), &err);
    assert_ok(wa_container_writer_new(sink, pool, 1, frame, &w, &err), &err);
    wa_pool_submit(pool, &h.job);
    assert_ok(wa_container_write_lent(w, data, len, &err), &err);
    assert_int_equal(wa_container_stored_size(w), 0);
    begin_watch(&watching, &h);
    assert_ok(wa_container_space(w, &room, &room_len, &err), &err);
    end_watch(&watching);
    assert_int_equal(room_len, frame);
    assert_int_equal(wa_container_stored_size(w), stored_size_of(data, 6 * frame, frame));
    wa_pool_wait(pool, &h.job);
    assert_false(h.gave_up);
    wa_container_writer_freep(&w); /* its jobs end before what they need */
    wa_cond_done(&h.cond);
    wa_mutex_done(&h.mutex);
}

static wa_container_writer *
begin_with(wa_compressor *c, size_t frame, wa_sink *sink)
{
    wa_container_writer *w = NULL;
    wa_error err = WA_ERROR_INIT;
    assert_ok(wa_container_writer_new(sink, NULL, 1, frame, &w, &err), &err);
    wa_container_use(w, c);
    return w;
}

/* Sizes that grow and shrink; a writer that is finished, or was given up, leaves it to the next. */
static void
a_lent_compressor_serves_one_writer_after_the_other(void **state)
{
    (void)state;
    const size_t frames[] = {1000, 5000, 700, 5000};
    wa_compressor *c = wa_compressor_new();
    WA_CLEANUP(wa_freep) uint8_t *data = content_of(12345);
    WA_CLEANUP(wa_json_freep) json_t *facts = facts_of_test();
    wa_container_writer *finished[WA_ARRAY_SIZE(frames)];
    wa_sink *sinks[WA_ARRAY_SIZE(frames)];
    wa_buf objects[WA_ARRAY_SIZE(frames)];
    wa_error err = WA_ERROR_INIT;
    for (size_t i = 0; i < WA_ARRAY_SIZE(frames); i++) {
        WA_CLEANUP(wa_buf_done) wa_buf dropped = WA_BUF_INIT(1 << 20);
        WA_CLEANUP(wa_sink_freep) wa_sink *nowhere = wa_sink_to_buf(&dropped);
        wa_container_writer *given_up = begin_with(c, frames[i], nowhere);
        assert_ok(wa_container_write(given_up, data, frames[i] + 1, &err), &err);
        wa_container_writer_free(given_up);
        wa_buf_init(&objects[i], 1 << 20);
        sinks[i] = wa_sink_to_buf(&objects[i]);
        finished[i] = begin_with(c, frames[i], sinks[i]);
        assert_ok(wa_container_write(finished[i], data, 12345, &err), &err);
        assert_ok(wa_container_finish(finished[i], facts, NULL, &err), &err);
    }
    wa_compressor_free(c);
    for (size_t i = 0; i < WA_ARRAY_SIZE(frames); i++) {
        wa_container_writer_free(finished[i]);
        assert_as_written_alone(&objects[i], data, 12345, frames[i]);
        wa_sink_free(sinks[i]);
        wa_buf_done(&objects[i]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lent_compressor_serves_one_writer_after_the_other),
        cmocka_unit_test(eight_frames_are_lent_without_waiting_for_a_worker),
        cmocka_unit_test(more_frames_than_there_is_room_for_wait_for_the_worker),
        cmocka_unit_test(room_for_a_frame_waits_for_all_that_its_memory_depends_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
