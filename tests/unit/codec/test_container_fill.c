/*
 * tests/unit/codec/test_container_fill.c - frames whose bytes the workers bring.
 */
#include "container_fixture.h"

#include <string.h>

#define FRAME 1000u
#define FRAMES 60u
#define LEN ((size_t)FRAME * FRAMES)

typedef struct filler {
    wa_frame_fill fill; /* first */
    const uint8_t *from;
    uint8_t *to;
    size_t len;
    wa_container_writer *writer;
    struct filler *awaits; /* is filled by another worker first; NULL: none */
    bool fails;
} filler;

static wa_status
bring(wa_frame_fill *fill, wa_error *err)
{
    filler *f = (filler *)fill;
    memcpy(f->to, f->from, f->len);
    if (f->fails)
        return wa_error_set(err, WA_IO, "no such bytes");
    return WA_OK;
}

/* Ends when the one behind it has been filled: its turn to be hashed comes last of all. */
static wa_status
bring_late(wa_frame_fill *fill, wa_error *err)
{
    filler *f = (filler *)fill;
    WA_TRY(wa_container_wait_filled(f->writer, &f->awaits->fill, err));
    return bring(fill, err);
}

typedef struct fixture {
    uint8_t *data;
    wa_buf object;
    wa_sink *sink;
    wa_pool *pool;
    wa_container_writer *w;
    filler fillers[FRAMES];
    wa_error err;
} fixture;

static int
setup(void **state)
{
    fixture *f = wa_calloc(1, sizeof *f);
    f->data = content_of(LEN);
    wa_buf_init(&f->object, 1 << 20);
    f->sink = wa_sink_to_buf(&f->object);
    assert_ok(wa_pool_new("test", 3, 4, &f->pool, &f->err), &f->err);
    assert_ok(wa_container_writer_new(f->sink, f->pool, 1, FRAME, &f->w, &f->err), &f->err);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    fixture *f = *state;
    wa_container_writer_free(f->w);
    wa_sink_free(f->sink);
    wa_pool_free(f->pool);
    wa_buf_done(&f->object);
    wa_freep(&f->data);
    wa_freep(&f);
    return 0;
}

/* The rest of the current frame, whose last `own` bytes the caller brings. */
static wa_status
try_write_later(fixture *f, size_t i, size_t *at, size_t own)
{
    void *room = NULL;
    size_t left = 0;
    assert_ok(wa_container_space(f->w, &room, &left, &f->err), &f->err);
    own = own < left ? own : left;
    f->fillers[i].fill.run = f->fillers[i].awaits != NULL ? bring_late : bring;
    f->fillers[i].writer = f->w;
    f->fillers[i].from = f->data + *at;
    f->fillers[i].to = room;
    f->fillers[i].len = left - own;
    memcpy((uint8_t *)room + left - own, f->data + *at + left - own, own);
    wa_container_fill_later(f->w, &f->fillers[i].fill);
    *at += left;
    return wa_container_write(f->w, room, left, &f->err);
}

static void
write_later(fixture *f, size_t i, size_t *at, size_t own)
{
    assert_ok(try_write_later(f, i, at, own), &f->err);
}

static void
assert_written(fixture *f, size_t len)
{
    WA_CLEANUP(wa_json_freep) json_t *facts = facts_of_test();
    char hash[WA_XXH_HEX], expected[WA_XXH_HEX];
    assert_string_equal(wa_container_hash(f->w, hash), wa_xxh_of(f->data, len, expected));
    assert_ok(wa_container_finish(f->w, facts, NULL, &f->err), &f->err);
    assert_as_written_alone(&f->object, f->data, len, FRAME);
}

static void
frames_that_workers_fill_are_as_if_they_had_been_written(void **state)
{
    fixture *f = *state;
    size_t at = 0;
    for (size_t i = 0; at < LEN - 2 * FRAME; i++) {
        size_t before = i * 37 % (FRAME + 300);
        assert_ok(wa_container_write(f->w, f->data + at, before, &f->err), &f->err);
        at += before;
        if (at < LEN - FRAME)
            write_later(f, i, &at, i * 11 % 60);
    }
    assert_written(f, at);
}

static void
a_frame_that_is_filled_after_the_next_one_is_hashed_before_it(void **state)
{
    fixture *f = *state;
    size_t at = 0;
    for (size_t i = 0; i < 20; i += 2) {
        f->fillers[i].awaits = &f->fillers[i + 1];
        f->fillers[i + 1].writer = f->w;
        write_later(f, i, &at, 0);
        write_later(f, i + 1, &at, 0);
        assert_ok(wa_container_wait_filled(f->w, &f->fillers[i].fill, &f->err), &f->err);
    }
    assert_written(f, at);
}

static void
a_fill_that_fails_breaks_the_writer_with_its_error(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_json_freep) json_t *facts = facts_of_test();
    wa_error again = WA_ERROR_INIT;
    size_t at = 0;
    f->fillers[1].fails = true;
    write_later(f, 0, &at, 10);
    wa_status status = try_write_later(f, 1, &at, 10);
    assert_true(status == WA_OK || status == WA_IO); /* it may be heard of at once */
    assert_true(f->fillers[1].fill.given);
    assert_ok(wa_container_wait_filled(f->w, &f->fillers[0].fill, &again), &again);
    assert_int_equal(wa_container_wait_filled(f->w, &f->fillers[1].fill, &f->err), WA_IO);
    assert_string_equal(f->err.message, "no such bytes");
    if (status == WA_OK) {
        assert_int_equal(wa_container_finish(f->w, facts, NULL, &again), WA_IO);
        assert_string_equal(again.message, "no such bytes");
        wa_error_clear(&again);
    }
    assert_int_equal(wa_container_write(f->w, "x", 1, &again), WA_FAILED);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(frames_that_workers_fill_are_as_if_they_had_been_written,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_frame_that_is_filled_after_the_next_one_is_hashed_before_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_fill_that_fails_breaks_the_writer_with_its_error, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
