/*
 * Tests of whole segments: never overwritten, conflicts kept, every read checked, whatever fails.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "repo_fixture.h"

#include "walagent/base/file.h"
#include "walagent/repo/event.h"

static void
expect_segment(fixture *f, wa_segno segno, uint32_t salt)
{
    wa_error err = WA_ERROR_INIT;
    char *expected = pattern(salt, SEGMENT), *got = wa_malloc(SEGMENT);
    wa_wal_facts facts;
    wa_wal_info info;
    OK(wa_wal_get(f->repo, &f->first, segno, NULL, got, &facts, &info, &err));
    assert_memory_equal(got, expected, SEGMENT);
    assert_true(info.start == segno * SEGMENT && info.end == (segno + 1) * SEGMENT);
    assert_true(facts.commits == 1 + segno % 5);
    free(expected);
    free(got);
}

static wa_status
push(fixture *f, wa_segno segno, uint32_t salt, wa_put_outcome *outcome, wa_error *err)
{
    char *data = pattern(salt, SEGMENT);
    wa_wal_facts facts = facts_at((wa_time)segno * 1000, 1 + segno % 5);
    wa_status status =
        wa_wal_put(f->repo, &f->first, segno, data, NULL, 7, &facts, true, outcome, err);
    free(data);
    return status;
}

static void
a_segment_comes_back_with_its_facts(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_put_outcome outcome;
    OK(push(&f, 0x1234, 1, &outcome, &err));
    assert_int_equal(outcome, WA_PUT_CREATED);
    expect_segment(&f, 0x1234, 1);
    wa_wal_info info;
    uint64_t before = requests(&f);
    OK(wa_wal_head(f.repo, &f.first, 0x1234, &info, &err));
    assert_true(requests(&f) == before + 1);
    assert_int_equal(info.epoch, 7);
    assert_true(info.checked);
    assert_string_equal(info.writer, wa_repo_writer(f.repo));
    wa_wal_facts facts;
    before = requests(&f);
    OK(wa_wal_get_facts(f.repo, &f.first, 0x1234, &facts, &info, &err));
    assert_true(requests(&f) == before + 1);
    assert_true(facts.min_time == 0x1234 * 1000);
    FAILS(wa_wal_head(f.repo, &f.first, 0x1235, &info, &err), WA_NOT_FOUND);
    fixture_done(&f);
}

static void
the_same_content_again_is_fine(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_put_outcome outcome;
    OK(push(&f, 5, 1, &outcome, &err));
    OK(push(&f, 5, 1, &outcome, &err));
    assert_int_equal(outcome, WA_PUT_SAME);
    assert_int_equal(count_keys(&f, "wal/"), 1);
    assert_int_equal(count_keys(&f, "quarantine/"), 0);
    fixture_done(&f);
}

static void
other_content_is_kept_reported_and_does_not_replace(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_put_outcome outcome;
    OK(push(&f, 5, 1, &outcome, &err));
    for (int again = 0; again < 3; again++) {
        char hash[WA_XXH_HEX];
        char *mine = pattern(2, SEGMENT), *theirs = pattern(1, SEGMENT);
        FAILS(push(&f, 5, 2, &outcome, &err), WA_CONFLICT);
        assert_non_null(strstr(err.message, wa_xxh_of(mine, SEGMENT, hash)));
        assert_non_null(strstr(err.message, wa_xxh_of(theirs, SEGMENT, hash)));
        assert_non_null(strstr(err.message, wa_repo_writer(f.repo)));
        assert_non_null(strstr(err.hint, "walagent lineage resolve 000000010000000000000005 "
                                         "--keep archived|both"));
        free(mine);
        free(theirs);
    }
    expect_segment(&f, 5, 1);
    assert_int_equal(count_keys(&f, "quarantine/"), 1);
    json_t *events = NULL;
    OK(wa_events_load(f.repo, WA_TIME_NONE, &events, &err));
    assert_int_equal(json_array_size(events), 1);
    assert_string_equal(wa_json_string_or(json_array_get(events, 0), "kind", ""), "conflict");
    json_decref(events);
    fixture_done(&f);
}

static wa_status
push_a_draft(fixture *f, wa_segno segno, uint32_t salt, wa_put_outcome *outcome, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *data = pattern(salt, SEGMENT);
    WA_CLEANUP(wa_wal_writer_freep) wa_wal_writer *w = NULL;
    wa_wal_facts facts = facts_at((wa_time)segno * 1000, 1 + segno % 5);
    WA_TRY(wa_wal_writer_begin(f->repo, &f->first, segno, NULL, &w, err));
    wa_wal_writer_draft(w);
    WA_TRY(wa_container_write_lent(wa_wal_writer_container(w), data, SEGMENT, err));
    return wa_wal_writer_commit(w, 7, &facts, true, outcome, err);
}

static void
fixture_in_directory(fixture *f, char *dir)
{
    wa_error err = WA_ERROR_INIT;
    wa_cluster identity = fixture_identity();
    bool created = false;
    assert_non_null(mkdtemp(dir));
    WA_CLEANUP(wa_freep) char *url = wa_format("file://%s", dir);
    OK(wa_store_open(&(wa_store_options){.url = url}, &f->store, &err));
    OK(wa_repo_of_store(f->store, "main", 1, &f->repo, &err));
    f->first = wa_branch_of(SYSTEM_ID, 1, NULL, 0, NULL, 0);
    OK(wa_repo_init(f->repo, &identity, false, &created, &err));
}

/* The first one is copied into the new directory, the second becomes the object itself. */
static void
drafts_are_archived_compared_and_kept_like_other_content(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    char dir[] = "/tmp/walagent-test-XXXXXX", hash[WA_XXH_HEX];
    fixture_in_directory(&f, dir);
    wa_put_outcome outcome;
    for (wa_segno segno = 5; segno < 7; segno++) {
        OK(push_a_draft(&f, segno, 1, &outcome, &err));
        assert_int_equal(outcome, WA_PUT_CREATED);
        OK(push_a_draft(&f, segno, 1, &outcome, &err));
        assert_int_equal(outcome, WA_PUT_SAME);
        FAILS(push_a_draft(&f, segno, 2, &outcome, &err), WA_CONFLICT);
        wa_error_clear(&err);
        expect_segment(&f, segno, 1);
    }
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_freep) char *prefix = wa_repo_key(f.repo, "quarantine/");
    WA_CLEANUP(wa_freep) char *theirs = pattern(2, SEGMENT);
    OK(wa_repo_list(f.repo, prefix, false, NULL, &keys, &err));
    assert_int_equal(keys.count, 2);
    assert_non_null(strstr(keys.items[1], wa_xxh_of(theirs, SEGMENT, hash)));
    WA_CLEANUP(wa_buf_done) wa_buf stored = WA_BUF_INIT(2 * SEGMENT);
    WA_CLEANUP(wa_buf_done) wa_buf raw = WA_BUF_INIT(2 * SEGMENT);
    OK(wa_store_get(f.store, keys.items[1], 0, UINT64_MAX, &stored, NULL, &err));
    OK(wa_container_unpack(stored.data, stored.len, "kept", &raw, NULL, &err));
    assert_int_equal(raw.len, SEGMENT);
    assert_memory_equal(raw.data, theirs, SEGMENT);
    fixture_done(&f);
    OK(wa_remove_tree(dir, &err));
}

static void
quarantined_bytes_can_be_read_back(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_put_outcome outcome;
    OK(push(&f, 5, 1, &outcome, &err));
    FAILS(push(&f, 5, 2, &outcome, &err), WA_CONFLICT);
    char *prefix = wa_repo_key(f.repo, "quarantine/");
    wa_strv keys = {0};
    OK(wa_repo_list(f.repo, prefix, false, NULL, &keys, &err));
    wa_buf stored = WA_BUF_INIT(2 * SEGMENT), raw = WA_BUF_INIT(2 * SEGMENT);
    OK(wa_store_get(f.store, keys.items[0], 0, UINT64_MAX, &stored, NULL, &err));
    OK(wa_container_unpack(stored.data, stored.len, "quarantine", &raw, NULL, &err));
    char *mine = pattern(2, SEGMENT);
    assert_int_equal(raw.len, SEGMENT);
    assert_memory_equal(raw.data, mine, SEGMENT);
    free(mine);
    free(prefix);
    wa_buf_done(&stored);
    wa_buf_done(&raw);
    wa_strv_done(&keys);
    fixture_done(&f);
}

/* Any failure of one call: nothing half-written, and the same call again succeeds. */
static void
a_put_survives_every_failure(void **state)
{
    (void)state;
    static const wa_fault faults[] = {WA_FAULT_FAIL, WA_FAULT_LOSE_REPLY, WA_FAULT_TEAR};
    for (size_t kind = 0; kind < WA_ARRAY_SIZE(faults); kind++) {
        for (unsigned nth = 1;; nth++) {
            assert_true(nth < 20);
            wa_error err = WA_ERROR_INIT;
            fixture f;
            fixture_new(&f);
            wa_put_outcome outcome;
            wa_store_fault_set(f.store, "any", nth, 0, faults[kind]);
            wa_status status = push(&f, 9, 1, &outcome, &err);
            unsigned hits = wa_store_fault_hits(f.store);
            no_faults(&f);
            wa_wal_info info;
            if (status != WA_OK) {
                assert_int_equal(status, WA_UNAVAILABLE);
                wa_status there = wa_wal_head(f.repo, &f.first, 9, &info, &err);
                assert_true(there == WA_NOT_FOUND || there == WA_OK);
                OK(push(&f, 9, 1, &outcome, &err));
            }
            expect_segment(&f, 9, 1);
            assert_int_equal(count_keys(&f, "quarantine/"), 0);
            fixture_done(&f);
            if (hits == 0)
                break;
        }
    }
}

/* With the conflict path failing at any call, CONFLICT is only said once both are kept. */
static void
a_conflict_survives_every_failure(void **state)
{
    (void)state;
    static const wa_fault faults[] = {WA_FAULT_FAIL, WA_FAULT_LOSE_REPLY};
    for (size_t kind = 0; kind < WA_ARRAY_SIZE(faults); kind++) {
        for (unsigned nth = 1;; nth++) {
            assert_true(nth < 20);
            wa_error err = WA_ERROR_INIT;
            fixture f;
            fixture_new(&f);
            wa_put_outcome outcome;
            OK(push(&f, 9, 1, &outcome, &err));
            wa_store_fault_set(f.store, "any", nth, 0, faults[kind]);
            wa_status status = push(&f, 9, 2, &outcome, &err);
            unsigned hits = wa_store_fault_hits(f.store);
            no_faults(&f);
            if (status != WA_CONFLICT) {
                assert_int_equal(status, WA_UNAVAILABLE);
                FAILS(push(&f, 9, 2, &outcome, &err), WA_CONFLICT);
            }
            assert_int_equal(count_keys(&f, "quarantine/"), 1);
            assert_true(count_keys(&f, "event/") >= 1);
            expect_segment(&f, 9, 1);
            fixture_done(&f);
            if (hits == 0)
                break;
        }
    }
}

static void
no_get_returns_bytes_that_were_changed_on_the_way(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    put_segment(&f, &f.first, 3, 1);
    char *out = wa_malloc(SEGMENT);
    char *key = wa_wal_key(f.repo, &f.first, 3);
    wa_buf stored = WA_BUF_INIT(2 * SEGMENT);
    OK(wa_store_get(f.store, key, 0, UINT64_MAX, &stored, NULL, &err));
    uint64_t seed = 20261126;
    for (int round = 0; round < 300; round++) {
        size_t at = next_random(&seed) % stored.len;
        char mask = (char)(1 << (next_random(&seed) % 8));
        stored.data[at] ^= mask;
        put_raw(&f, key, stored.data, stored.len);
        wa_status status = wa_wal_get(f.repo, &f.first, 3, NULL, out, NULL, NULL, &err);
        if (status == WA_OK)
            fail_msg("bit flip at %zu of %zu was not noticed", at, stored.len);
        if (status == WA_CORRUPT && strstr(err.message, key) == NULL)
            fail_msg("flip at %zu: the message names no key: %s", at, err.message);
        stored.data[at] ^= mask;
    }
    for (size_t len = 0; len < stored.len; len += stored.len / 50 + 1) {
        put_raw(&f, key, stored.data, len);
        assert_int_equal(wa_wal_get(f.repo, &f.first, 3, NULL, out, NULL, NULL, &err), WA_CORRUPT);
    }
    free(key);
    free(out);
    wa_buf_done(&stored);
    fixture_done(&f);
}

static void
an_object_under_another_segments_name_is_corrupt(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    put_segment(&f, &f.first, 3, 1);
    char *from = wa_wal_key(f.repo, &f.first, 3), *to = wa_wal_key(f.repo, &f.first, 4);
    char *out = wa_malloc(SEGMENT);
    wa_buf stored = WA_BUF_INIT(2 * SEGMENT);
    OK(wa_store_get(f.store, from, 0, UINT64_MAX, &stored, NULL, &err));
    put_raw(&f, to, stored.data, stored.len);
    FAILS(wa_wal_get(f.repo, &f.first, 4, NULL, out, NULL, NULL, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, "something else"));
    free(from);
    free(to);
    free(out);
    wa_buf_done(&stored);
    fixture_done(&f);
}

static void
a_copy_that_lost_its_public_facts_is_still_recognised(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    put_segment(&f, &f.first, 3, 1);
    char *key = wa_wal_key(f.repo, &f.first, 3);
    wa_buf stored = WA_BUF_INIT(2 * SEGMENT);
    OK(wa_store_get(f.store, key, 0, UINT64_MAX, &stored, NULL, &err));
    put_raw(&f, key, stored.data, stored.len);
    wa_put_outcome outcome;
    OK(push(&f, 3, 1, &outcome, &err));
    assert_int_equal(outcome, WA_PUT_SAME);
    FAILS(push(&f, 3, 2, &outcome, &err), WA_CONFLICT);
    free(key);
    wa_buf_done(&stored);
    fixture_done(&f);
}

static wa_status
collect(void *arg, wa_segno segno, uint64_t stored_size, wa_time modified, wa_error *err)
{
    (void)stored_size;
    (void)modified;
    (void)err;
    wa_buf_printf(arg, "%llx ", (unsigned long long)segno);
    return WA_OK;
}

static void
segments_are_listed_in_order_across_log_ids(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_segno last = 0;
    FAILS(wa_wal_last(f.repo, &f.first, &last, &err), WA_NOT_FOUND);
    static const wa_segno segnos[] = {0x2001, 0xFFF, 0x1000, 1, 0xFFE, 0x2000};
    for (size_t i = 0; i < WA_ARRAY_SIZE(segnos); i++)
        put_segment(&f, &f.first, segnos[i], 1);
    char *stray = wa_repo_key(f.repo, "wal/00000001-%s/00000003/README", f.first.id);
    put_raw(&f, stray, "x", 1);
    wa_buf seen = WA_BUF_INIT(1000);
    OK(wa_wal_list(f.repo, &f.first, 0, collect, &seen, &err));
    assert_string_equal(wa_buf_str(&seen), "1 ffe fff 1000 2000 2001 ");
    wa_buf_reset(&seen);
    OK(wa_wal_list(f.repo, &f.first, 0x1000, collect, &seen, &err));
    assert_string_equal(wa_buf_str(&seen), "1000 2000 2001 ");
    drop(&f, stray);
    OK(wa_wal_last(f.repo, &f.first, &last, &err));
    assert_true(last == 0x2001);
    free(stray);
    wa_buf_done(&seen);
    fixture_done(&f);
}

typedef struct racer {
    fixture *f;
    uint32_t salt;
    wa_status status;
} racer;

static void *
race_push(void *arg)
{
    racer *r = arg;
    wa_error err = WA_ERROR_INIT;
    wa_put_outcome outcome;
    r->status = push(r->f, 77, r->salt, &outcome, &err);
    return NULL;
}

static void
of_two_writers_one_wins_and_both_contents_are_kept(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        wa_error err = WA_ERROR_INIT;
        fixture f;
        fixture_new(&f);
        racer racers[2] = {{&f, 1, WA_FAILED}, {&f, 2, WA_FAILED}};
        pthread_t threads[2];
        for (size_t i = 0; i < 2; i++)
            OK(wa_thread_start(&threads[i], "push", race_push, &racers[i], &err));
        for (size_t i = 0; i < 2; i++)
            wa_thread_join(threads[i]);
        size_t winner = racers[0].status == WA_OK ? 0 : 1;
        assert_int_equal(racers[winner].status, WA_OK);
        assert_int_equal(racers[1 - winner].status, WA_CONFLICT);
        assert_int_equal(count_keys(&f, "wal/"), 1);
        assert_int_equal(count_keys(&f, "quarantine/"), 1);
        char *expected = pattern(racers[winner].salt, SEGMENT), *got = wa_malloc(SEGMENT);
        OK(wa_wal_get(f.repo, &f.first, 77, NULL, got, NULL, NULL, &err));
        assert_memory_equal(got, expected, SEGMENT);
        free(expected);
        free(got);
        fixture_done(&f);
    }
}

static void
other_files_of_archive_command_follow_the_same_rules(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    static const char name[] = "000000010000000000000003.00000028.backup";
    OK(wa_wal_put_other(f.repo, &f.first, name, "START", 5, &err));
    OK(wa_wal_put_other(f.repo, &f.first, name, "START", 5, &err));
    FAILS(wa_wal_put_other(f.repo, &f.first, name, "OTHER!", 6, &err), WA_CONFLICT);
    assert_int_equal(count_keys(&f, "quarantine/"), 1);
    FAILS(wa_wal_put_other(f.repo, &f.first, "../../x", "a", 1, &err), WA_INVALID);
    fixture_done(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_segment_comes_back_with_its_facts),
        cmocka_unit_test(the_same_content_again_is_fine),
        cmocka_unit_test(other_content_is_kept_reported_and_does_not_replace),
        cmocka_unit_test(drafts_are_archived_compared_and_kept_like_other_content),
        cmocka_unit_test(quarantined_bytes_can_be_read_back),
        cmocka_unit_test(a_put_survives_every_failure),
        cmocka_unit_test(a_conflict_survives_every_failure),
        cmocka_unit_test(no_get_returns_bytes_that_were_changed_on_the_way),
        cmocka_unit_test(an_object_under_another_segments_name_is_corrupt),
        cmocka_unit_test(a_copy_that_lost_its_public_facts_is_still_recognised),
        cmocka_unit_test(segments_are_listed_in_order_across_log_ids),
        cmocka_unit_test(of_two_writers_one_wins_and_both_contents_are_kept),
        cmocka_unit_test(other_files_of_archive_command_follow_the_same_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
