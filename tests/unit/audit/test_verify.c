/*
 * test_verify.c - verify over an archive in memory: clean it finds nothing, and every damage is
 * found by its kind.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "wal_builder.h"

#include "verify_internal.h"

#include "walagent/audit/window.h"
#include "walagent/repo/backup_object.h"
#include "walagent/repo/tail.h"
#include "walagent/store/drivers.h"

#include <string.h>

#define SEGMENT (1024u * 1024)
#define SYSTEM 7000000000000000001u
#define SEGMENTS 70 /* more than two spans of 32 */

typedef struct fixture {
    wa_repo *repo;
    wa_branch branch;
    wal_builder *wal;
    wa_error err;
} fixture;

#define OK(call)                                                                                   \
    do {                                                                                           \
        wa_status s_ = (call);                                                                     \
        if (s_ != WA_OK)                                                                           \
            fail_msg("%s", f->err.message);                                                        \
    } while (0)

static void
put_segment(fixture *f, wa_segno segno, const void *bytes)
{
    wa_put_outcome outcome;
    OK(wa_wal_put(f->repo, &f->branch, segno, bytes, NULL, 1, NULL, true, &outcome, &f->err));
}

static void
put_segments(fixture *f, size_t except)
{
    for (size_t i = 0; i < SEGMENTS; i++)
        if (i != except)
            put_segment(f, 1 + i, wal_bytes(f->wal) + i * SEGMENT);
}

static int
setup(void **state)
{
    fixture *f = wa_calloc(1, sizeof *f);
    wa_cluster identity = {
        .system_identifier = SYSTEM, .major = 15, .segment_size = SEGMENT, .since = wa_time_now()};
    bool created = false;
    OK(wa_repo_of_store(wa_store_mem_new(), "main", 1, &f->repo, &f->err));
    OK(wa_repo_init(f->repo, &identity, false, &created, &f->err));
    f->branch = wa_branch_of(SYSTEM, 1, NULL, 0, NULL, 0);
    f->wal = wal_builder_new(NULL);
    /* Records that cross pages, segments and spans. */
    while (wal_size(f->wal) < SEGMENTS * (size_t)SEGMENT) {
        wal_add_commit(f->wal, 700, 1000000);
        wal_add_noise(f->wal, 701, 200000);
    }
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    fixture *f = *state;
    wal_builder_free(f->wal);
    wa_repo_free(f->repo);
    wa_freep(&f);
    return 0;
}

static wa_verify_result
verify(fixture *f, bool since_verified)
{
    wa_verify_result r = {0};
    wa_verify_options options = {
        .repo = f->repo, .wal = true, .since_verified = since_verified, .jobs = 3};
    OK(wa_verify_run(&options, &r, &f->err));
    return r;
}

static size_t
count_kind(const wa_verify_result *r, const char *kind)
{
    size_t n = 0;
    for (size_t i = 0; i < r->damage_count; i++)
        n += strcmp(r->damage[i].kind, kind) == 0;
    return n;
}

static void
clean_wal_over_several_spans_has_no_damage(void **state)
{
    fixture *f = *state;
    put_segments(f, SIZE_MAX);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, false);
    if (r.damage_count > 0)
        fail_msg("%s", r.damage[0].message);
    assert_int_equal(r.segments, SEGMENTS);
    assert_true(r.records > 2 * SEGMENTS);
    assert_int_equal(r.wal_bytes, (uint64_t)SEGMENTS * SEGMENT);
}

static void
the_next_run_leaves_out_what_was_verified(void **state)
{
    fixture *f = *state;
    put_segments(f, SIZE_MAX);
    wa_verify_result first = verify(f, true);
    assert_int_equal(first.skipped_segments, 0);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result second = verify(f, true);
    assert_int_equal(second.skipped_segments, SEGMENTS - 1);
    assert_int_equal(second.segments, 1);
    assert_int_equal(second.damage_count, 0);
    wa_verify_result_done(&first);
}

/* The object's checksums are right, the WAL in it is not: only the record's CRC tells. */
static void
a_record_damaged_before_it_was_archived_is_found_and_named(void **state)
{
    fixture *f = *state;
    wal_bytes_mutable(f->wal)[40 * (size_t)SEGMENT + SEGMENT / 2] ^= 1;
    put_segments(f, SIZE_MAX);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, false);
    assert_true(count_kind(&r, "chain") >= 1);
    assert_int_equal(count_kind(&r, "chain"), r.damage_count);
    assert_non_null(r.damage[0].cost);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result again = verify(f, true);
    assert_int_equal(again.skipped_segments, 0); /* damage sets no mark */
    assert_true(again.damage_count > 0);
}

/* Each segment is right by itself: only the link between spans shows that they don't belong
 * together. */
static void
a_segment_of_another_history_at_a_joint_is_found(void **state)
{
    fixture *f = *state;
    wal_builder *other = wal_builder_new(&(wal_builder_options){.start = 33 * (wa_lsn)SEGMENT});
    wal_fill_segment(other);
    wal_builder *before = wal_builder_new(NULL);
    for (size_t i = 0; i < 32; i++)
        wal_fill_segment(before);
    for (size_t i = 0; i < 32; i++)
        put_segment(f, 1 + i, wal_bytes(before) + i * SEGMENT);
    put_segment(f, 33, wal_bytes(other));
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, false);
    assert_int_equal(count_kind(&r, "chain"), 1);
    assert_non_null(strstr(r.damage[0].message, "links to"));
    wal_builder_free(other);
    wal_builder_free(before);
}

static void
chunks_of_the_unfinished_segment_are_checked(void **state)
{
    fixture *f = *state;
    put_segment(f, 1, wal_bytes(f->wal));
    wa_lsn start = 2 * (wa_lsn)SEGMENT;
    uint8_t *bytes = wal_bytes_mutable(f->wal) + SEGMENT;
    OK(wa_tail_put(f->repo, &f->branch, 1, start, start, bytes, 300000, NULL, true, &f->err));
    WA_CLEANUP(wa_verify_result_done) wa_verify_result clean = verify(f, false);
    assert_int_equal(clean.damage_count, 0);
    assert_int_equal(clean.chunks, 1);
    bytes[400000] ^= 1;
    OK(wa_tail_put(f->repo, &f->branch, 1, start + 300000, start + 300000, bytes + 300000, 500000,
                   NULL, true, &f->err));
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, false);
    assert_int_equal(count_kind(&r, "chain"), 1);
}

static void
add_backup(fixture *f, wa_lsn start, wa_lsn end)
{
    wa_backup_info *b = wa_backup_info_new();
    b->start_time = wa_time_now();
    b->end_time = b->start_time + 1000000;
    wa_backup_new_label(false, b->start_time, b->label);
    b->branch = b->end_branch = f->branch;
    b->start_lsn = start;
    b->end_lsn = end;
    b->major = 15;
    b->system_identifier = SYSTEM;
    b->segment_size = SEGMENT;
    OK(wa_backup_begin(f->repo, b, &f->err));
    OK(wa_backup_commit(f->repo, b, &f->err));
    wa_backup_info_free(b);
}

static void
a_missing_segment_behind_a_backup_is_a_hole_and_splits_the_window(void **state)
{
    fixture *f = *state;
    add_backup(f, 2 * (wa_lsn)SEGMENT + 100, 3 * (wa_lsn)SEGMENT);
    put_segments(f, 20);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, false);
    assert_int_equal(count_kind(&r, "hole"), 1);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 1);
    assert_int_equal(w.holes[0].begin, 21 * (wa_lsn)SEGMENT);
    assert_int_equal(w.holes[0].end, 22 * (wa_lsn)SEGMENT);
    assert_int_equal(w.count, 1);
    assert_int_equal(w.items[0].begin, 3 * (wa_lsn)SEGMENT);
    assert_int_equal(w.items[0].end, 21 * (wa_lsn)SEGMENT);
    assert_true(wa_windows_backup_usable(&w, w.backups.items[0]));
}

static void
a_backup_whose_wal_is_not_complete_is_not_usable(void **state)
{
    fixture *f = *state;
    add_backup(f, 20 * (wa_lsn)SEGMENT, 22 * (wa_lsn)SEGMENT);
    put_segments(f, 20); /* segment 21 is missing */
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_false(wa_windows_backup_usable(&w, w.backups.items[0]));
    assert_int_equal(w.count, 0);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, false);
    assert_int_equal(count_kind(&r, "backup"), 1);
}

static void
the_last_commit_of_a_window_is_found(void **state)
{
    fixture *f = *state;
    add_backup(f, 2 * (wa_lsn)SEGMENT, 3 * (wa_lsn)SEGMENT);
    put_segments(f, SIZE_MAX);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.count, 1);
    assert_int_equal(w.items[0].end_time, 1000000);
    WA_CLEANUP(wa_json_freep) json_t *json = wa_windows_to_json(f->repo, &w);
    assert_int_equal(json_array_size(json_object_get(json, "windows")), 1);
    assert_true(json_is_true(
        json_object_get(json_array_get(json_object_get(json, "backups"), 0), "usable")));
}

static void
a_cancelled_run_is_an_error_and_no_verdict(void **state)
{
    fixture *f = *state;
    put_segments(f, SIZE_MAX);
    wa_cancel cancel;
    OK(wa_cancel_init(&cancel, &f->err));
    wa_cancel_trigger(&cancel);
    wa_verify_result r = {0};
    wa_verify_options options = {.repo = f->repo, .wal = true, .jobs = 2, .cancel = &cancel};
    assert_int_equal(wa_verify_run(&options, &r, &f->err), WA_CANCELLED);
    assert_int_equal(r.segments, 0);
    wa_cancel_done(&cancel);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(clean_wal_over_several_spans_has_no_damage),
        T(the_next_run_leaves_out_what_was_verified),
        T(a_record_damaged_before_it_was_archived_is_found_and_named),
        T(a_segment_of_another_history_at_a_joint_is_found),
        T(chunks_of_the_unfinished_segment_are_checked),
        T(a_missing_segment_behind_a_backup_is_a_hole_and_splits_the_window),
        T(a_backup_whose_wal_is_not_complete_is_not_usable),
        T(the_last_commit_of_a_window_is_found),
        T(a_cancelled_run_is_an_error_and_no_verdict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
