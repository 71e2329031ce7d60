/*
 * test_mutations.c - of several thousand random changes none passes as checked, and none is served:
 * in what archive-push is given, in what a server streams, in what archive-get finds.
 *
 * The WAL is two segments; a record crosses from the first into the second.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "hook_fixture.h"
#include "receiver_internal.h"
#include "wal_mutate.h"

#define SEG3 "000000010000000000000003"
#define SEG4 "000000010000000000000004"

static wal_builder *
two_segments(void)
{
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    wal_add_commit(b, 700, 1000);
    wal_fill_until(b, 4 * SEGMENT - 40000);
    wal_add_noise(b, 701, 100000);
    wal_add_commit(b, 701, 2000);
    wal_fill_segment(b);
    assert_int_equal(wal_size(b), 2 * SEGMENT);
    return b;
}

static wa_status
take_key(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    wa_strv_add(arg, object->key);
    return WA_OK;
}

static void
remove_below(fixture *f, const char *below)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *prefix = wa_repo_key(f->repo, "%s", below);
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    OK(wa_store_list(f->store, &(wa_list_options){.prefix = prefix}, take_key, &keys, &err));
    if (keys.count > 0)
        OK(wa_store_delete(f->store, &keys, &err));
}

/* What is in the archive of segment 4 as checked must be what the server wrote. */
static void
assert_nothing_wrong_is_checked(fixture *f, const uint8_t *original, unsigned seed)
{
    wa_error err = WA_ERROR_INIT;
    wa_wal_info info = {0};
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(SEGMENT);
    wa_lsn end = 0;
    wa_status status = wa_wal_get(f->repo, &f->first, 4, NULL, bytes, NULL, &info, &err);
    if (status == WA_OK && info.checked && !wal_is_same(original, bytes, 0, SEGMENT))
        fail_msg("seed %u: changed WAL was archived as checked", seed);
    wa_error_clear(&err);
    status = wa_tail_assemble(f->repo, &f->first, 4, bytes, &end, NULL, &err);
    if (status == WA_OK && !wal_is_same(original, bytes, 0, (size_t)(end - 4 * SEGMENT)))
        fail_msg("seed %u: changed WAL became a chunk", seed);
    wa_error_clear(&err);
}

static void
no_changed_segment_is_pushed_as_checked(void **state)
{
    fixture *f = *state;
    wal_builder *b = two_segments();
    const uint8_t *original = wal_bytes(b) + SEGMENT;
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(SEGMENT);
    WA_CLEANUP(wa_freep) char *before = put_file(f, SEG3, wal_bytes(b), SEGMENT);
    size_t refused = 0, unchecked = 0, chunks = 0;
    for (unsigned seed = 1; seed <= 1500; seed++) {
        wa_error err = WA_ERROR_INIT;
        wa_push_result result = {0};
        srandom(seed);
        memcpy(bytes, original, SEGMENT);
        wal_mutate(bytes, SEGMENT, SEGMENT);
        if (wal_is_same(original, bytes, 0, SEGMENT))
            continue;
        wa_status status = push(f, SEG4, bytes, SEGMENT, &result, &err);
        bool whole = count_keys(f, "wal/") > 0;
        assert_nothing_wrong_is_checked(f, original, seed);
        refused += status != WA_OK;
        unchecked += status == WA_OK && whole;
        chunks += status == WA_OK && !whole;
        if (status == WA_OK && whole && (result.checked || result.warning[0] == '\0'))
            fail_msg("seed %u: pushed without a warning", seed);
        remove_below(f, "wal/");
        remove_below(f, "tail/");
        remove_below(f, "event/");
    }
    assert_true(refused > 0 && unchecked > 500 && chunks > 0);
    wal_builder_free(b);
}

/* What segment 4 is to begin with is known from the one before it in pg_wal alone. */
static void
a_record_that_crosses_into_the_segment_is_checked(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    wal_builder *b = two_segments();
    WA_CLEANUP(wa_freep) char *before = put_file(f, SEG3, wal_bytes(b), SEGMENT);
    wal_bytes_mutable(b)[SEGMENT + 20000] ^= 1;
    OK(push(f, SEG4, wal_bytes(b) + SEGMENT, SEGMENT, &result, &err));
    assert_false(result.checked);
    assert_non_null(strstr(result.warning, "CRC"));
    wal_builder_free(b);
    wal_builder *other = wal_builder_new(&(wal_builder_options){.start = 4 * SEGMENT});
    wal_fill_segment(other);
    remove_below(f, "wal/");
    OK(push(f, SEG4, wal_bytes(other), SEGMENT, &result, &err));
    assert_false(result.checked);
    wal_builder_free(other);
}

static void
a_timeline_above_the_segments_own_is_damage(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    wal_builder *b = full_segment(700);
    wal_bytes_mutable(b)[SEGMENT - 8192 + 4] = 9;
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    assert_false(result.checked);
    assert_non_null(strstr(result.warning, "timeline"));
    wal_builder_free(b);
}

/* One connection's worth: the reader from segment 3's beginning, the change in either segment. */
static void
no_changed_stream_is_acknowledged(void **state)
{
    (void)state;
    wal_builder *b = two_segments();
    const uint8_t *original = wal_bytes(b);
    size_t len = 2 * SEGMENT, stopped = 0;
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(len);
    static const wa_tli chain[] = {1};
    for (unsigned seed = 1; seed <= 1500; seed++) {
        wa_error err = WA_ERROR_INIT;
        wa_streamer s = {.cluster.segment_size = SEGMENT};
        wa_receiver rx;
        srandom(seed);
        memcpy(bytes, original, len);
        wal_mutate(bytes, len, len);
        if (wal_is_same(original, bytes, 0, len))
            continue;
        wa_receiver_init(&rx, &s, NULL);
        wa_walreader_expect_system(rx.reader, SYSTEM);
        wa_walreader_expect_timelines(rx.reader, chain, 1);
        wa_walreader_start(rx.reader, 3 * SEGMENT, 0);
        rx.position = 3 * SEGMENT;
        wa_status status = WA_OK;
        for (size_t at = 0; at < len && status == WA_OK;) {
            size_t piece = 1 + (size_t)random() % 100000;
            piece = piece < len - at ? piece : len - at;
            status = wa_receiver_check(&rx, bytes + at, piece, &err);
            rx.position += status == WA_OK ? piece : 0;
            at += piece;
        }
        size_t checked = (size_t)(wa_receiver_checked(&rx) - 3 * SEGMENT);
        if (!wal_is_same(original, bytes, 0, checked))
            fail_msg("seed %u: changed WAL counts as checked", seed);
        stopped += status != WA_OK;
        wa_damage_free(s.damage);
        wa_receiver_done(&rx);
    }
    assert_true(stopped > 1300);
    wal_builder_free(b);
}

static wa_status
get_segment(fixture *f, const char *name, uint8_t *out, wa_error *err)
{
    wa_get_result result = {0};
    WA_CLEANUP(wa_freep) char *target = wa_path_join(f->wal_dir, "RECOVERYXLOG");
    WA_CLEANUP(wa_buf_done) wa_buf bytes = WA_BUF_INIT(2 * SEGMENT);
    unlink(target);
    wa_status status = wa_get_file(&f->get, WA_GET_RECOVERY, name, target, &result, err);
    assert_true(wa_path_exists(target) == (status == WA_OK));
    if (status != WA_OK)
        return status;
    assert_int_equal(wa_file_read(target, 2 * SEGMENT, &bytes, err), WA_OK);
    assert_int_equal(bytes.len, SEGMENT);
    memcpy(out, bytes.data, SEGMENT);
    return WA_OK;
}

/* The object's checksums fit the changed bytes, and its facts say that they were checked. What is
 * left of the record before can't be judged from this segment: it is not changed here. */
static void
no_changed_wal_is_served(void **state)
{
    fixture *f = *state;
    wal_builder *b = two_segments();
    const uint8_t *original = wal_bytes(b);
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(SEGMENT);
    WA_CLEANUP(wa_freep) uint8_t *got = wa_malloc(SEGMENT);
    for (unsigned seed = 1; seed <= 800; seed++) {
        wa_error err = WA_ERROR_INIT;
        wa_put_outcome outcome;
        srandom(seed);
        memcpy(bytes, original, SEGMENT);
        wal_mutate(bytes, SEGMENT, SEGMENT - 40000);
        if (wal_is_same(original, bytes, 0, SEGMENT))
            continue;
        OK(wa_wal_put(f->repo, &f->first, 3, bytes, NULL, 1, NULL, true, &outcome, &err));
        wa_status status = get_segment(f, SEG3, got, &err);
        if (status == WA_OK || status == WA_NOT_FOUND)
            fail_msg("seed %u: changed WAL: %s", seed, wa_status_name(status));
        remove_below(f, "wal/");
    }
    wal_builder_free(b);
}

static void
no_changed_object_is_served(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_put_outcome outcome;
    wal_builder *b = two_segments();
    WA_CLEANUP(wa_freep) uint8_t *got = wa_malloc(SEGMENT);
    OK(wa_wal_put(f->repo, &f->first, 3, wal_bytes(b), NULL, 1, NULL, true, &outcome, &err));
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(f->repo, &f->first, 3);
    WA_CLEANUP(wa_freep) char *meta = NULL;
    WA_CLEANUP(wa_buf_done) wa_buf was = WA_BUF_INIT(2 * SEGMENT);
    OK(wa_store_get(f->store, key, 0, UINT64_MAX, &was, &meta, &err));
    for (unsigned seed = 1; seed <= 1000; seed++) {
        WA_CLEANUP(wa_buf_done) wa_buf now = WA_BUF_INIT(2 * SEGMENT);
        wa_buf_add(&now, was.data, was.len);
        srandom(seed);
        size_t at = (size_t)random() % was.len;
        size_t len = random() % 4 == 0 ? at : was.len;
        now.data[at] = (char)(now.data[at] ^ (1 << (random() % 8)));
        wa_body body = {.data = now.data, .len = len, .fd = -1};
        OK(wa_store_put(f->store, key, &body, meta, WA_PUT_REPLACE, &err));
        wa_status status = get_segment(f, SEG3, got, &err);
        if (status == WA_OK || status == WA_NOT_FOUND)
            fail_msg("seed %u: a changed object: %s", seed, wa_status_name(status));
        wa_error_clear(&err);
    }
    wal_builder_free(b);
}

/* The server's own damaged history: it must come back, and not in silence. */
static void
what_was_archived_unchecked_is_served_and_said(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_put_outcome outcome;
    wa_get_result result = {0};
    wal_builder *b = full_segment(700);
    wal_bytes_mutable(b)[500000] ^= 4;
    OK(wa_wal_put(f->repo, &f->first, 3, wal_bytes(b), NULL, 1, NULL, false, &outcome, &err));
    WA_CLEANUP(wa_freep) char *target = wa_path_join(f->wal_dir, "RECOVERYXLOG");
    OK(wa_get_file(&f->get, WA_GET_RECOVERY, SEG3, target, &result, &err));
    assert_non_null(strstr(result.note, "failed their checks"));
    wal_builder_free(b);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(no_changed_segment_is_pushed_as_checked),
        T(a_record_that_crosses_into_the_segment_is_checked),
        T(a_timeline_above_the_segments_own_is_damage),
        cmocka_unit_test(no_changed_stream_is_acknowledged),
        T(no_changed_wal_is_served),
        T(no_changed_object_is_served),
        T(what_was_archived_unchecked_is_served_and_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
