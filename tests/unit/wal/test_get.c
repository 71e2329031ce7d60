/*
 * test_get.c - restore_command: what is served to whom, and what never is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "get_internal.h"
#include "hook_fixture.h"

#define SEG3 "000000010000000000000003"
#define HISTORY "1\t0/340800\tno recovery target specified\n"
#define FORK 0x340800u

static wa_status
get(fixture *f, wa_get_mode mode, const char *name, uint8_t *out, wa_error *err)
{
    wa_get_result result = {0};
    WA_CLEANUP(wa_freep) char *target = wa_path_join(f->wal_dir, "RECOVERYXLOG");
    WA_CLEANUP(wa_buf_done) wa_buf bytes = WA_BUF_INIT(2 * SEGMENT);
    unlink(target);
    wa_status status = wa_get_file(&f->get, mode, name, target, &result, err);
    assert_true(wa_path_exists(target) == (status == WA_OK));
    if (status != WA_OK)
        return status;
    assert_int_equal(wa_file_read(target, 2 * SEGMENT, &bytes, err), WA_OK);
    if (out != NULL) {
        assert_int_equal(bytes.len, SEGMENT);
        memcpy(out, bytes.data, SEGMENT);
    }
    return WA_OK;
}

static wa_status
get_history(fixture *f, const char *name, wa_error *err)
{
    wa_get_result result = {0};
    WA_CLEANUP(wa_freep) char *target = wa_path_join(f->wal_dir, "RECOVERYHISTORY");
    return wa_get_file(&f->get, WA_GET_STANDBY, name, target, &result, err);
}

static void
a_whole_segment_is_served_in_every_mode(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wal_builder *b = full_segment(700);
    uint8_t *got = wa_malloc(SEGMENT);
    put_whole(f, &f->first, 3, wal_bytes(b));
    for (wa_get_mode mode = WA_GET_RAW; mode <= WA_GET_RECOVERY; mode++) {
        OK(get(f, mode, SEG3, got, &err));
        assert_memory_equal(got, wal_bytes(b), SEGMENT);
        FAILS(get(f, mode, "000000010000000000000004", NULL, &err), WA_NOT_FOUND);
        FAILS(get(f, mode, "00000002.history", NULL, &err), WA_NOT_FOUND);
        FAILS(get(f, mode, "postgresql.conf", NULL, &err), WA_INVALID);
    }
    free(got);
    wal_builder_free(b);
}

static void
a_failing_store_is_never_a_missing_file(void **state)
{
    fixture *f = *state;
    wal_builder *b = full_segment(700);
    put_whole(f, &f->first, 3, wal_bytes(b));
    static const char *const names[] = {SEG3, "000000010000000000000004", "00000002.history"};
    for (wa_get_mode mode = WA_GET_RAW; mode <= WA_GET_RECOVERY; mode++) {
        for (size_t i = 0; i < WA_ARRAY_SIZE(names); i++) {
            wa_status status = WA_UNAVAILABLE;
            for (unsigned nth = 1; status == WA_UNAVAILABLE; nth++) {
                wa_error err = WA_ERROR_INIT;
                assert_true(nth < 30);
                wa_store_fault_set(f->store, "any", nth, 1, WA_FAULT_FAIL);
                status = get(f, mode, names[i], NULL, &err);
                bool fault_passed = status != WA_UNAVAILABLE;
                wa_store_fault_set(f->store, "any", 0, 0, WA_FAULT_FAIL);
                if (fault_passed) /* it needs fewer calls than nth: the true answer */
                    assert_int_equal(status, i == 0 ? WA_OK : WA_NOT_FOUND);
            }
        }
    }
    wal_builder_free(b);
}

static wa_status
collect(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    wa_strv_add(arg, object->key);
    return WA_OK;
}

static void
remove_below(fixture *f, const char *prefix)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_list_options options = {.prefix = prefix};
    OK(wa_store_list(f->store, &options, collect, &keys, &err));
    assert_true(keys.count > 0);
    OK(wa_store_delete(f->store, &keys, &err));
}

/* An agent that has loaded the repository, whose file system is then unmounted. */
static void
an_emptied_repository_is_never_a_missing_file(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wal_builder *b = full_segment(700);
    put_whole(f, &f->first, 3, wal_bytes(b));
    remove_below(f, "");
    for (wa_get_mode mode = WA_GET_RAW; mode <= WA_GET_RECOVERY; mode++) {
        FAILS(get(f, mode, SEG3, NULL, &err), WA_UNAVAILABLE);
        FAILS(get(f, mode, "00000002.history", NULL, &err), WA_UNAVAILABLE);
    }
    wal_builder_free(b);
}

static void
a_lost_lineage_or_history_is_never_a_missing_file(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = wa_lineage_new();
    wa_branch second = wa_branch_of(SYSTEM, 2, HISTORY, strlen(HISTORY), NULL, 0);
    wa_lineage_append(l, &f->first, 0);
    wa_lineage_append(l, &second, FORK);
    OK(wa_history_put(f->repo, &second, HISTORY, strlen(HISTORY), &err));
    OK(wa_lineage_store(f->repo, l, &err));
    OK(get_history(f, "00000002.history", &err));
    WA_CLEANUP(wa_freep) char *timelines = wa_repo_key(f->repo, "timeline/");
    remove_below(f, timelines);
    FAILS(get_history(f, "00000002.history", &err), WA_CORRUPT);
    WA_CLEANUP(wa_freep) char *lineages = wa_repo_key(f->repo, "lineage/");
    remove_below(f, lineages);
    FAILS(get(f, WA_GET_STANDBY, SEG3, NULL, &err), WA_CORRUPT);
}

static void
a_tail_is_served_only_when_it_holds_more_than_the_local_file(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    uint8_t *padded = wa_calloc(1, SEGMENT), *got = wa_malloc(SEGMENT);
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    wal_fill_until(b, 3 * SEGMENT + 100000);
    size_t short_len = wal_size(b);
    OK(wa_tail_put(f->repo, &f->first, 1, 3 * SEGMENT, 3 * SEGMENT, wal_bytes(b), short_len, NULL,
                   true, &err));
    OK(get(f, WA_GET_STANDBY, SEG3, got, &err)); /* no local file */
    assert_memory_equal(got, wal_bytes(b), short_len);
    memcpy(padded, wal_bytes(b), short_len);
    free(put_file(f, SEG3, padded, SEGMENT));
    FAILS(get(f, WA_GET_STANDBY, SEG3, NULL, &err), WA_NOT_FOUND); /* the same */
    FAILS(get(f, WA_GET_RECOVERY, SEG3, NULL, &err), WA_NOT_FOUND);
    OK(get(f, WA_GET_RAW, SEG3, got, &err)); /* a person sees what is there */
    wal_fill_until(b, 3 * SEGMENT + 200000);
    memcpy(padded, wal_bytes(b), wal_size(b));
    free(put_file(f, SEG3, padded, SEGMENT));
    FAILS(get(f, WA_GET_STANDBY, SEG3, NULL, &err), WA_NOT_FOUND); /* less */
    wal_fill_until(b, 3 * SEGMENT + 300000);
    OK(wa_tail_put(f->repo, &f->first, 1, 3 * SEGMENT + short_len, 3 * SEGMENT + short_len,
                   wal_bytes(b) + short_len, wal_size(b) - short_len, NULL, true, &err));
    OK(get(f, WA_GET_STANDBY, SEG3, got, &err)); /* more */
    assert_memory_equal(got, wal_bytes(b), wal_size(b));
    for (size_t i = wal_size(b); i < SEGMENT; i++)
        assert_int_equal(got[i], 0);
    wal_builder_free(b);
    free(padded);
    free(got);
}

static void
other_local_bytes_are_an_alarm_and_no_file(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    uint8_t *padded = wa_calloc(1, SEGMENT);
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    wal_builder *local = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    wal_fill_until(b, 3 * SEGMENT + 100000);
    wal_add_commit(local, 4711, 5);
    memcpy(padded, wal_bytes(local), wal_size(local));
    free(put_file(f, SEG3, padded, SEGMENT));
    OK(wa_tail_put(f->repo, &f->first, 1, 3 * SEGMENT, 3 * SEGMENT, wal_bytes(b), wal_size(b), NULL,
                   true, &err));
    FAILS(get(f, WA_GET_STANDBY, SEG3, NULL, &err), WA_NOT_FOUND);
    assert_int_equal(count_keys(f, "event/"), 1);
    wal_builder_free(b);
    wal_builder_free(local);
    free(padded);
}

static void
less_than_was_served_before_is_a_failure(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    wal_fill_until(b, 3 * SEGMENT + 100000);
    OK(wa_tail_put(f->repo, &f->first, 1, 3 * SEGMENT, 3 * SEGMENT, wal_bytes(b), wal_size(b), NULL,
                   true, &err));
    OK(wa_get_remember_served(f->dir, SEG3, 3 * SEGMENT + 500000, &err));
    assert_true(wa_get_served(f->dir, SEG3) == 3 * SEGMENT + 500000);
    assert_true(wa_get_served(f->dir, "000000010000000000000004") == 0);
    FAILS(get(f, WA_GET_STANDBY, SEG3, NULL, &err), WA_UNAVAILABLE);
    wal_builder_free(b);
}

/* Two timelines; segment 3 holds the fork. */
static wa_branch
fork_at(fixture *f, wal_builder *b, bool adopt)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    wa_branch child = wa_branch_of(SYSTEM, 2, HISTORY, strlen(HISTORY), "r", 1);
    OK(wa_history_put(f->repo, &child, HISTORY, strlen(HISTORY), &err));
    wal_fill_until(b, FORK - 1500);
    wal_add_noise(b, 0, (uint32_t)(FORK - wal_position(b)));
    assert_true(wal_position(b) == FORK);
    if (adopt) {
        OK(wa_lineage_load(f->repo, &l, &err));
        wa_lineage_append(l, &child, FORK);
        l->epoch = 1;
        OK(wa_lineage_store(f->repo, l, &err));
    }
    return child;
}

static void
a_timeline_outside_the_lineage_is_served_to_people_only(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    wa_branch child = fork_at(f, b, false);
    wal_set_tli(b, 2);
    wal_fill_segment(b);
    put_whole(f, &child, 3, wal_bytes(b));
    for (wa_get_mode mode = WA_GET_RAW; mode <= WA_GET_RECOVERY; mode++) {
        wa_status expected = mode == WA_GET_RAW ? WA_OK : WA_NOT_FOUND;
        FAILS(get(f, mode, "000000020000000000000003", NULL, &err), expected);
        FAILS(get(f, mode, "00000002.history", NULL, &err), expected);
    }
    wal_builder_free(b);
}

static void
an_ancestor_ends_at_its_fork(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    uint8_t *got = wa_malloc(SEGMENT);
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    wa_branch child = fork_at(f, b, true);
    wal_fill_segment(b); /* the old timeline went on */
    wal_fill_until(b, 4 * SEGMENT + 10000);
    wal_fill_segment(b);
    put_whole(f, &f->first, 3, wal_bytes(b));
    put_whole(f, &f->first, 4, wal_bytes(b) + SEGMENT);
    OK(get(f, WA_GET_STANDBY, SEG3, got, &err));
    size_t prefix = FORK - 3 * SEGMENT;
    assert_memory_equal(got, wal_bytes(b), prefix);
    for (size_t i = prefix; i < SEGMENT; i++)
        assert_int_equal(got[i], 0);
    FAILS(get(f, WA_GET_STANDBY, "000000010000000000000004", NULL, &err), WA_NOT_FOUND);
    OK(get(f, WA_GET_RAW, "000000010000000000000004", got, &err));
    OK(get(f, WA_GET_RAW, SEG3, got, &err));
    assert_memory_equal(got, wal_bytes(b), SEGMENT);
    OK(get(f, WA_GET_STANDBY, "00000002.history", NULL, &err));
    /* the child's own segment there: the ancestor's is not needed */
    OK(wa_tail_put(f->repo, &child, 1, 3 * SEGMENT, 3 * SEGMENT, wal_bytes(b), prefix + 10, NULL,
                   true, &err));
    FAILS(get(f, WA_GET_STANDBY, SEG3, NULL, &err), WA_NOT_FOUND);
    free(got);
    wal_builder_free(b);
}

static void
a_restore_pins_its_chain(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    char text[WA_BRANCH_TEXT];
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    (void)fork_at(f, b, true);
    OK(get(f, WA_GET_RECOVERY, "00000002.history", NULL, &err));
    static const struct {
        const char *target;
        bool follows; /* in recovery; a standby always does */
    } cases[] = {{"{\"lsn\":\"0/345678\"}", false}, {"\"latest\"", true}, {"null", true}};
    for (size_t i = 0; i < WA_ARRAY_SIZE(cases); i++) {
        WA_CLEANUP(wa_freep)
        char *json =
            wa_format("{\"v\":1,\"chain\":[{\"branch\":\"%s\",\"begin\":\"0/0\",\"end\":null}],"
                      "\"target\":%s}",
                      wa_branch_format(&f->first, text), cases[i].target);
        free(put_file(f, "walagent.restore.json", json, strlen(json)));
        FAILS(get(f, WA_GET_RECOVERY, "00000002.history", NULL, &err),
              cases[i].follows ? WA_OK : WA_NOT_FOUND);
        OK(get(f, WA_GET_STANDBY, "00000002.history", NULL, &err));
        OK(get(f, WA_GET_RAW, "00000002.history", NULL, &err));
    }
    free(put_file(f, "walagent.restore.json", "{", 1));
    FAILS(get(f, WA_GET_RECOVERY, "00000002.history", NULL, &err), WA_CORRUPT);
    wal_builder_free(b);
}

static void
a_damaged_object_is_replaced_by_complete_chunks_only(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    uint8_t *got = wa_malloc(SEGMENT);
    wal_builder *b = full_segment(700);
    put_whole(f, &f->first, 3, wal_bytes(b));
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(f->repo, &f->first, 3);
    WA_CLEANUP(wa_buf_done) wa_buf stored = WA_BUF_INIT(2 * SEGMENT);
    WA_CLEANUP(wa_freep) char *meta = NULL;
    OK(wa_store_get(f->store, key, 0, UINT64_MAX, &stored, &meta, &err));
    stored.data[stored.len / 3] ^= 1;
    wa_body body = {.data = stored.data, .len = stored.len, .fd = -1};
    OK(wa_store_put(f->store, key, &body, meta, WA_PUT_REPLACE, &err));
    FAILS(get(f, WA_GET_RECOVERY, SEG3, NULL, &err), WA_CORRUPT);
    OK(wa_tail_put(f->repo, &f->first, 1, 3 * SEGMENT, 3 * SEGMENT, wal_bytes(b), 300000, NULL,
                   true, &err));
    FAILS(get(f, WA_GET_RECOVERY, SEG3, NULL, &err), WA_CORRUPT);
    OK(wa_tail_put(f->repo, &f->first, 1, 3 * SEGMENT + 300000, 3 * SEGMENT + 300000,
                   wal_bytes(b) + 300000, SEGMENT - 300000, NULL, true, &err));
    OK(get(f, WA_GET_RECOVERY, SEG3, got, &err));
    assert_memory_equal(got, wal_bytes(b), SEGMENT);
    free(got);
    wal_builder_free(b);
}

static void
prefetch_takes_whole_segments_only(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_get_result result = {0};
    WA_CLEANUP(wa_freep) char *target = wa_path_join(f->wal_dir, "ahead");
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    wal_fill_until(b, 3 * SEGMENT + 100000);
    OK(wa_tail_put(f->repo, &f->first, 1, 3 * SEGMENT, 3 * SEGMENT, wal_bytes(b), wal_size(b), NULL,
                   true, &err));
    FAILS(wa_get_segment(&f->get, WA_GET_STANDBY, SEG3, target, true, &result, &err), WA_NOT_FOUND);
    assert_false(wa_path_exists(target));
    assert_true(wa_get_served(f->dir, SEG3) == 0);
    wal_builder_free(b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_whole_segment_is_served_in_every_mode),
        TEST(a_failing_store_is_never_a_missing_file),
        TEST(an_emptied_repository_is_never_a_missing_file),
        TEST(a_lost_lineage_or_history_is_never_a_missing_file),
        TEST(a_tail_is_served_only_when_it_holds_more_than_the_local_file),
        TEST(other_local_bytes_are_an_alarm_and_no_file),
        TEST(less_than_was_served_before_is_a_failure),
        TEST(a_timeline_outside_the_lineage_is_served_to_people_only),
        TEST(an_ancestor_ends_at_its_fork),
        TEST(a_restore_pins_its_chain),
        TEST(a_damaged_object_is_replaced_by_complete_chunks_only),
        TEST(prefetch_takes_whole_segments_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
