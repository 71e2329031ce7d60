/*
 * test_verify.c - verify over an archive in memory: clean it finds nothing, and every damage is
 * found by its kind.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "verify_fixture.h"

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
    /* The ends of what was verified are read again. */
    assert_int_equal(second.skipped_segments, SEGMENTS - 2);
    assert_int_equal(second.segments, 2);
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
    /* It is named by every later run, which reads little else. */
    WA_CLEANUP(wa_verify_result_done) wa_verify_result again = verify(f, true);
    assert_true(count_kind(&again, "chain") >= 1);
    assert_string_equal(again.damage[0].object, r.damage[0].object);
    assert_true(again.skipped_segments > SEGMENTS - 10);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result third = verify(f, true);
    assert_true(count_kind(&third, "chain") >= 1);
}

/* Only the segments at both ends tell whether it belongs there. */
static void
what_filled_a_hole_later_is_not_taken_for_verified(void **state)
{
    fixture *f = *state;
    put_segments(f, 20);
    wa_verify_result first = verify(f, true);
    assert_int_equal(first.segments, SEGMENTS - 1);
    wal_builder *other = wal_builder_new(&(wal_builder_options){.start = 21 * (wa_lsn)SEGMENT});
    wal_fill_segment(other);
    put_segment(f, 21, wal_bytes(other));
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, true);
    assert_int_equal(r.skipped_segments, SEGMENTS - 5);
    assert_true(count_kind(&r, "chain") >= 1);
    replace_segment(f, 21, wal_bytes(f->wal) + 20 * (size_t)SEGMENT);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result healed = verify(f, true);
    assert_int_equal(healed.damage_count, 0);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result last = verify(f, true);
    assert_int_equal(last.segments, 2);
    wal_builder_free(other);
    wa_verify_result_done(&first);
}

/* A record of several segments: what its beginning says can be judged only at its end. */
static void
a_long_records_first_segment_is_read_again_when_its_end_is_wrong(void **state)
{
    fixture *f = *state;
    wal_builder *b = wal_builder_new(NULL);
    wal_fill_segment(b);
    wal_add_commit(b, 700, 1000000);
    wal_add_noise(b, 701, 2 * SEGMENT + SEGMENT / 2);
    wal_fill_segment(b);
    wal_fill_segment(b);
    assert_int_equal(wal_size(b), 5 * SEGMENT);
    wal_bytes_mutable(b)[2 * SEGMENT + 9000] ^= 16;
    for (size_t i = 0; i < 5; i++)
        put_segment(f, 1 + i, wal_bytes(b) + i * SEGMENT);
    for (size_t run = 0; run < 3; run++) {
        WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, true);
        assert_int_equal(count_kind(&r, "chain"), 1);
    }
    wal_builder_free(b);
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
the_record_that_leaves_the_last_whole_segment_is_checked_in_its_chunks(void **state)
{
    fixture *f = *state;
    wal_builder *b = wal_builder_new(NULL);
    wal_fill_until(b, SEGMENT + SEGMENT - 100000);
    wal_add_noise(b, 701, 300000);
    wal_add_commit(b, 701, 1000000);
    wal_bytes_mutable(b)[SEGMENT + 50000] ^= 1; /* in the part that the chunk has */
    wal_builder *own = f->wal;
    f->wal = b;
    put_segment(f, 1, wal_bytes(b));
    put_chunk(f, 2 * (wa_lsn)SEGMENT, wal_size(b) - SEGMENT);
    f->wal = own;
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, false);
    assert_int_equal(count_kind(&r, "chain"), 1);
    assert_non_null(strstr(r.damage[0].message, "CRC"));
    wal_builder_free(b);
}

static void
a_missing_chunk_is_named_with_those_that_it_makes_useless(void **state)
{
    fixture *f = *state;
    wa_lsn start = 2 * (wa_lsn)SEGMENT;
    put_segment(f, 1, wal_bytes(f->wal));
    put_chunk(f, start, 100000);
    put_chunk(f, start + 200000, 100000);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, false);
    assert_int_equal(count_kind(&r, "chunk"), 1);
    assert_non_null(strstr(r.damage[0].message, "is missing"));
    put_chunk(f, start + 100000, 100000);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result healed = verify(f, false);
    assert_int_equal(healed.damage_count, 0);
}

/* A segment made of others' bytes, put under the name of segment 5 with facts that fit. */
static void
assert_found_in_segment_5(fixture *f, const void *bytes, const char *what)
{
    replace_segment(f, 5, bytes);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, false);
    assert_true(count_kind(&r, "chain") >= 1);
    bool named = false;
    for (size_t i = 0; i < r.damage_count; i++)
        named = named || (strstr(r.damage[i].object, "000000010000000000000005") != NULL &&
                          strstr(r.damage[i].message, what) != NULL);
    if (!named)
        fail_msg("%s: %s", r.damage[0].object, r.damage[0].message);
}

static void
foreign_reordered_padded_and_recycled_segments_are_found(void **state)
{
    fixture *f = *state;
    put_segments(f, SIZE_MAX);
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(SEGMENT);
    const uint8_t *five = wal_bytes(f->wal) + 4 * (size_t)SEGMENT, *six = five + SEGMENT;
    assert_found_in_segment_5(f, six, "page address"); /* reordered */
    memcpy(bytes, five, SEGMENT);                      /* cut: padded with zeroes */
    memset(bytes + SEGMENT / 2, 0, SEGMENT / 2);
    assert_found_in_segment_5(f, bytes, "");
    memcpy(bytes, five, SEGMENT); /* recycled */
    memcpy(bytes + SEGMENT / 2, six + SEGMENT / 2, SEGMENT / 2);
    assert_found_in_segment_5(f, bytes, "page address");
    wal_builder *foreign = wal_builder_new(
        &(wal_builder_options){.start = 5 * (wa_lsn)SEGMENT, .system_identifier = SYSTEM + 1});
    wal_fill_segment(foreign);
    assert_found_in_segment_5(f, wal_bytes(foreign), "system identifier");
    wal_builder_free(foreign);
    wal_builder *stray =
        wal_builder_new(&(wal_builder_options){.start = 5 * (wa_lsn)SEGMENT, .tli = 2});
    wal_fill_segment(stray);
    assert_found_in_segment_5(f, wal_bytes(stray), "timeline");
    wal_builder_free(stray);
}

/* Where the records end inside a segment, reading goes on behind it. */
static void
two_padded_segments_are_two_findings(void **state)
{
    fixture *f = *state;
    wal_builder *b = wal_builder_new(NULL);
    for (size_t i = 0; i < 6; i++) {
        if (i == 2 || i == 4) {
            wal_add_commit(b, 700, 1000000);
            wal_pad_segment(b);
        } else {
            wal_fill_segment(b);
        }
        put_segment(f, 1 + i, wal_bytes(b) + i * SEGMENT);
    }
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, false);
    assert_int_equal(count_kind(&r, "chain"), 2);
    assert_non_null(strstr(r.damage[0].message, "no record begins"));
    wal_builder_free(b);
}

static void
a_newer_majors_segments_are_a_warning_and_no_damage(void **state)
{
    fixture *f = *state;
    wal_builder *b = wal_builder_new(&(wal_builder_options){.magic = 0xD1F0});
    for (size_t i = 0; i < 3; i++) {
        wa_put_outcome outcome;
        wal_fill_segment(b);
        OK(wa_wal_put(f->repo, &f->branch, 1 + i, wal_bytes(b) + i * SEGMENT, NULL, 1, NULL, false,
                      &outcome, &f->err));
    }
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, true);
    assert_int_equal(r.damage_count, 3);
    assert_int_equal(r.warning_count, 3);
    assert_non_null(strstr(r.damage[0].message, "major version"));
    WA_CLEANUP(wa_verify_result_done) wa_verify_result again = verify(f, true);
    assert_int_equal(again.warning_count, 3); /* they are never taken for verified */
    wal_builder_free(b);
}

static void
a_damaged_history_is_named(void **state)
{
    fixture *f = *state;
    static const char history[] = "1\t0/300000\tno recovery target specified\n";
    wa_branch child = wa_branch_of(SYSTEM, 2, history, sizeof history - 1, NULL, 0);
    char name[WA_BRANCH_TEXT];
    OK(wa_history_put(f->repo, &child, history, sizeof history - 1, &f->err));
    put_segments(f, SIZE_MAX);
    WA_CLEANUP(wa_freep)
    char *key = wa_repo_key(f->repo, "timeline/%s/history", wa_branch_format(&child, name));
    wa_body forged = {.data = "1\t0/200000\tx\n", .len = 13, .fd = -1};
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(4096);
    WA_CLEANUP(wa_freep) char *meta = NULL;
    OK(wa_store_get(wa_repo_store(f->repo), key, 0, UINT64_MAX, &text, &meta, &f->err));
    WA_CLEANUP(wa_verify_result_done) wa_verify_result clean = verify(f, false);
    assert_int_equal(clean.damage_count, 0);
    OK(wa_store_put(wa_repo_store(f->repo), key, &forged, meta, WA_PUT_REPLACE, &f->err));
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, false);
    assert_int_equal(count_kind(&r, "history"), 1);
}

/* Replaces a history by another one with public facts that fit it. */
static void
forge_history(fixture *f, const wa_branch *branch, const char *text)
{
    char name[WA_BRANCH_TEXT];
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_strv_take(&keys,
                 wa_repo_key(f->repo, "timeline/%s/history", wa_branch_format(branch, name)));
    OK(wa_store_delete(wa_repo_store(f->repo), &keys, &f->err));
    OK(wa_history_put(f->repo, branch, text, strlen(text), &f->err));
}

static size_t
history_findings(fixture *f, const char *message)
{
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, true);
    for (size_t i = 0; i < r.damage_count; i++)
        if (strcmp(r.damage[i].kind, "history") == 0)
            assert_non_null(strstr(r.damage[i].message, message));
    return count_kind(&r, "history");
}

/* A child timeline with its fork in segment 2: as the first one, on another timeline from there. */
static wal_builder *
make_child(fixture *f, wa_lsn *ret_fork)
{
    wal_builder *b = wal_builder_new(NULL);
    (void)f;
    while (wal_position(b) < SEGMENT * UINT64_C(5) / 2)
        wal_add_noise(b, 700, 5000);
    *ret_fork = wal_position(b);
    wal_set_tli(b, 2);
    wal_add_end_of_recovery(b, 2, 1, 1000000);
    wal_fill_segment(b);
    wal_fill_segment(b);
    return b;
}

static wa_status
take_record(void *arg, const wa_record *record, wa_error *err)
{
    struct {
        wa_lsn from;
        wa_buf bytes;
    } *first = arg;
    (void)err;
    if (record->lsn >= first->from && first->bytes.len == 0)
        wa_branch_record_bytes(record, &first->bytes);
    return WA_OK;
}

/* Its segments, [first, last], archived, and its history: the branch that its first record names.
 */
static wa_branch
put_child(fixture *f, wa_segno first, wa_segno last, wa_lsn *ret_fork)
{
    struct {
        wa_lsn from;
        wa_buf bytes;
    } record = {.bytes = WA_BUF_INIT(2 * WA_RECORD_KEEP)};
    wa_put_outcome outcome;
    wa_segment_check check;
    wal_builder *b = make_child(f, &record.from);
    char lsn[WA_LSN_TEXT];
    WA_CLEANUP(wa_freep)
    char *history = wa_format("1\t%s\tno reason\n", wa_lsn_format(record.from, lsn));
    OK(wa_segment_check_all(wal_bytes(b) + SEGMENT, SEGMENT, 2 * (wa_lsn)SEGMENT, take_record,
                            &record, &check, &f->err));
    wa_branch child =
        wa_branch_of(SYSTEM, 2, history, strlen(history), record.bytes.data, record.bytes.len);
    OK(wa_history_put(f->repo, &child, history, strlen(history), &f->err));
    for (wa_segno s = first; s <= last; s++)
        OK(wa_wal_put(f->repo, &child, s, wal_bytes(b) + (s - 1) * SEGMENT, NULL, 1, NULL, true,
                      &outcome, &f->err));
    *ret_fork = record.from;
    wa_buf_done(&record.bytes);
    wal_builder_free(b);
    return child;
}

static void
a_forged_history_with_fitting_public_facts_is_refused(void **state)
{
    fixture *f = *state;
    wa_put_outcome outcome;
    wa_lsn fork = 0;
    char lsn[WA_LSN_TEXT];
    wa_branch child = put_child(f, 2, 3, &fork);
    WA_CLEANUP(wa_freep) char *history = wa_format("1\t%s\tno reason\n", wa_lsn_format(fork, lsn));
    assert_int_equal(history_findings(f, ""), 0);
    /* Another reason, another parent's end: valid files both, and wrong. */
    WA_CLEANUP(wa_freep)
    char *other_end = wa_format("1\t%s\tno reason\n", wa_lsn_format(fork - 8, lsn));
    WA_CLEANUP(wa_freep)
    char *other_reason = wa_format("1\t%s\tno raisin\n", wa_lsn_format(fork, lsn));
    forge_history(f, &child, other_end);
    assert_int_equal(history_findings(f, "gives the name"), 1);
    forge_history(f, &child, other_reason);
    assert_int_equal(history_findings(f, "gives the name"), 1);
    forge_history(f, &child, history);
    assert_int_equal(history_findings(f, ""), 0);
    /* The right history under another branch's name. */
    wa_branch stray = {.tli = 2, .id = "00c0ffee"};
    OK(wa_history_put(f->repo, &stray, history, strlen(history), &f->err));
    assert_int_equal(history_findings(f, "gives the name"), 0); /* no record: can't be told */
    wal_builder *b = make_child(f, &fork);
    OK(wa_wal_put(f->repo, &stray, 2, wal_bytes(b) + SEGMENT, NULL, 1, NULL, true, &outcome,
                  &f->err));
    wal_builder_free(b);
    assert_int_equal(history_findings(f, "gives the name"), 1);
}

static void
forge_fork(fixture *f, const wa_branch *branch, wa_lsn fork)
{
    char lsn[WA_LSN_TEXT];
    WA_CLEANUP(wa_freep) char *text = wa_format("1\t%s\tno reason\n", wa_lsn_format(fork, lsn));
    forge_history(f, branch, text);
}

static void
accept_child(fixture *f, const wa_branch *child, wa_lsn fork)
{
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = wa_lineage_new();
    wa_lineage_append(l, &f->branch, 0);
    wa_lineage_append(l, child, fork);
    l->since = wa_time_now();
    OK(wa_lineage_store(f->repo, l, &f->err));
}

static void
a_fork_behind_the_branchs_wal_is_refused(void **state)
{
    fixture *f = *state;
    wa_lsn fork = 0;
    wa_branch child = put_child(f, 2, 3, &fork);
    assert_int_equal(history_findings(f, ""), 0);
    forge_fork(f, &child, (UINT64_C(0x90) << 32) + 0x28);
    assert_int_equal(history_findings(f, "has WAL from 0/200000 on"), 1);
    forge_fork(f, &child, 4 * (wa_lsn)SEGMENT); /* where its own WAL ends */
    assert_int_equal(history_findings(f, "has WAL from 0/200000 on"), 1);
    forge_fork(f, &child, fork);
    assert_int_equal(history_findings(f, ""), 0);
}

static void
a_fork_behind_the_branchs_chunks_is_refused(void **state)
{
    fixture *f = *state;
    wa_lsn fork = 0;
    wa_branch child = put_child(f, 1, 0, &fork);
    wa_lsn start = 4 * (wa_lsn)SEGMENT;
    OK(wa_tail_put(f->repo, &child, 1, start, start, wal_bytes(f->wal), 8192, NULL, true, &f->err));
    assert_int_equal(history_findings(f, ""), 0);
    forge_fork(f, &child, 5 * (wa_lsn)SEGMENT);
    assert_int_equal(history_findings(f, "has WAL from 0/400000 on"), 1);
}

static void
a_fork_that_the_lineage_contradicts_is_refused(void **state)
{
    fixture *f = *state;
    wa_lsn fork = 0;
    wa_branch child = put_child(f, 2, 3, &fork);
    accept_child(f, &child, fork);
    assert_int_equal(history_findings(f, ""), 0);
    forge_fork(f, &child, 2 * (wa_lsn)SEGMENT - 8); /* where the branch has nothing */
    assert_int_equal(history_findings(f, "the accepted lineage says 0/2"), 1);
    forge_fork(f, &child, UINT64_C(0x90) << 32);
    assert_int_equal(history_findings(f, "the accepted lineage says 0/2"), 1);
    forge_fork(f, &child, fork);
    assert_int_equal(history_findings(f, ""), 0);
}

static void
a_right_history_whose_first_segments_are_gone_is_no_damage(void **state)
{
    fixture *f = *state;
    wa_lsn fork = 0;
    wa_branch child = put_child(f, 3, 3, &fork);
    assert_int_equal(history_findings(f, ""), 0);
    accept_child(f, &child, fork);
    assert_int_equal(history_findings(f, ""), 0);
}

/* The archive's first writer was on timeline 2 already: its step begins at 0. */
static void
the_first_step_of_the_lineage_says_nothing_about_a_fork(void **state)
{
    fixture *f = *state;
    wa_lsn fork = 0;
    wa_branch child = put_child(f, 3, 3, &fork);
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = wa_lineage_new();
    wa_lineage_append(l, &child, 0);
    l->since = wa_time_now();
    OK(wa_lineage_store(f->repo, l, &f->err));
    assert_int_equal(history_findings(f, ""), 0);
}

static void
a_further_writers_history_must_be_the_first_ones(void **state)
{
    fixture *f = *state;
    static const char history[] = "1\t0/300000\tno reason\n";
    wa_branch first = wa_branch_of(SYSTEM, 2, history, sizeof history - 1, NULL, 0);
    wa_branch second = first;
    snprintf(second.id, sizeof second.id, "%.8s-2", first.id);
    OK(wa_history_put(f->repo, &first, history, sizeof history - 1, &f->err));
    OK(wa_history_put(f->repo, &second, history, sizeof history - 1, &f->err));
    assert_int_equal(history_findings(f, ""), 0);
    forge_history(f, &second, "1\t0/300008\tno reason\n");
    assert_int_equal(history_findings(f, "is not that of"), 1);
}

static wa_status
take_key(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    wa_strv_add(arg, object->key);
    return WA_OK;
}

/* A cache: no answer depends on it. */
static void
a_damaged_index_object_is_a_warning_and_rebuilt(void **state)
{
    fixture *f = *state;
    wa_store *store = wa_repo_store(f->repo);
    put_segments(f, SIZE_MAX);
    OK(wa_index_update(f->repo, &f->branch, SEGMENTS, &f->err));
    WA_CLEANUP(wa_freep) char *prefix = wa_repo_key(f->repo, "index/");
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    OK(wa_store_list(store, &(wa_list_options){.prefix = prefix}, take_key, &keys, &f->err));
    assert_true(keys.count >= 4);
    const char *highest = keys.items[keys.count - 1];
    WA_CLEANUP(wa_buf_done) wa_buf bytes = WA_BUF_INIT(1u << 20);
    OK(wa_store_get(store, highest, 0, UINT64_MAX, &bytes, NULL, &f->err));
    wa_body torn = {.data = bytes.data, .len = bytes.len / 2, .fd = -1};
    OK(wa_store_put(store, highest, &torn, NULL, WA_PUT_REPLACE, &f->err));
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, false);
    assert_int_equal(r.damage_count, 1);
    assert_int_equal(r.warning_count, 1);
    assert_string_equal(r.damage[0].kind, "index");
    assert_string_equal(r.damage[0].object, highest);
    assert_non_null(strstr(r.damage[0].message, "was rebuilt"));
    WA_CLEANUP(wa_verify_result_done) wa_verify_result again = verify(f, false);
    assert_int_equal(again.damage_count, 0);
}

/* The archive's own clock: the last commit before, and the next backup's end. */
static void
damage_says_which_times_it_costs(void **state)
{
    fixture *f = *state;
    put_segments(f, SIZE_MAX);
    add_backup(f, 2 * (wa_lsn)SEGMENT, 3 * (wa_lsn)SEGMENT);
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(f->repo, &f->branch, 20);
    wa_strv_add(&keys, key);
    OK(wa_store_delete(wa_repo_store(f->repo), &keys, &f->err));
    WA_CLEANUP(wa_verify_result_done) wa_verify_result open = verify(f, false);
    assert_int_equal(open.damage_count, 1);
    assert_non_null(strstr(open.damage[0].cost, "WAL from 0/1400000 to 0/1500000: times after 20"));
    assert_non_null(strstr(open.damage[0].cost, "until there is a new backup"));
    add_backup(f, 30 * (wa_lsn)SEGMENT, 31 * (wa_lsn)SEGMENT);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result closed = verify(f, false);
    assert_int_equal(closed.damage_count, 1);
    assert_non_null(strstr(closed.damage[0].cost, "times between 20"));
    assert_non_null(strstr(closed.damage[0].cost, "can't be reached"));
}

static wa_status
add_fact(void *arg, const wa_record *record, wa_error *err)
{
    (void)err;
    wa_wal_facts_add(arg, record);
    return WA_OK;
}

static void
a_hole_behind_chunks_costs_the_times_after_them(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    WA_CLEANUP(wa_walreader_freep) wa_walreader *reader = wa_walreader_new(SEGMENT);
    wa_lsn start = 4 * (wa_lsn)SEGMENT, end;
    wa_time later = wa_time_now() + INT64_C(3600000000); /* than the end of the backup */
    char time[WA_TIME_TEXT];
    wal_builder *b = wal_builder_new(NULL);
    while (wal_position(b) < start + SEGMENT / 4) {
        wal_add_commit(b, 700, 1000000);
        wal_add_noise(b, 701, 20000);
    }
    wal_add_commit(b, 702, later);
    end = wal_position(b);
    for (int i = 0; i < 3; i++)
        wal_fill_segment(b);
    for (size_t n = 1; n < 6; n++)
        if (n != 4)
            put_segment(f, n, wal_bytes(b) + (n - 1) * SEGMENT);
    wa_wal_facts_init(facts);
    wa_walreader_start(reader, start, 0);
    OK(wa_walreader_feed(reader, wal_bytes(b) + 3 * (size_t)SEGMENT, (size_t)(end - start),
                         add_fact, facts, NULL, &f->err));
    OK(wa_tail_put(f->repo, &f->branch, 1, start, start, wal_bytes(b) + 3 * (size_t)SEGMENT,
                   (size_t)(end - start), facts, true, &f->err));
    wal_builder_free(b);
    add_backup(f, 2 * (wa_lsn)SEGMENT, 3 * (wa_lsn)SEGMENT);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = verify(f, false);
    assert_int_equal(count_kind(&r, "hole"), 1);
    assert_non_null(strstr(r.damage[0].cost, "times after "));
    assert_non_null(strstr(r.damage[0].cost, wa_time_format_rfc3339(later, time)));
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

/* Its positions lie in what can be restored, but on another branch. */
static void
a_backup_of_a_branch_without_wal_is_not_usable(void **state)
{
    static const char history[] = "1\t0/500100\tno recovery target specified\n";
    fixture *f = *state;
    wa_branch second = wa_branch_of(SYSTEM, 2, history, strlen(history), "record", 6);
    OK(wa_history_put(f->repo, &second, history, strlen(history), &f->err));
    add_backup(f, 2 * (wa_lsn)SEGMENT, 3 * (wa_lsn)SEGMENT);
    add_backup_of(f, &second, 10 * (wa_lsn)SEGMENT, 11 * (wa_lsn)SEGMENT);
    put_segments(f, SIZE_MAX);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.count, 1);
    assert_int_equal(w.items[0].backups, 1);
    assert_int_equal(w.backups.count, 2);
    for (size_t i = 0; i < w.backups.count; i++)
        assert_true(wa_windows_backup_usable(&w, w.backups.items[i]) ==
                    (w.backups.items[i]->branch.tli == 1));
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
        T(what_filled_a_hole_later_is_not_taken_for_verified),
        T(a_long_records_first_segment_is_read_again_when_its_end_is_wrong),
        T(the_record_that_leaves_the_last_whole_segment_is_checked_in_its_chunks),
        T(a_missing_chunk_is_named_with_those_that_it_makes_useless),
        T(foreign_reordered_padded_and_recycled_segments_are_found),
        T(two_padded_segments_are_two_findings),
        T(a_newer_majors_segments_are_a_warning_and_no_damage),
        T(a_damaged_history_is_named),
        T(a_forged_history_with_fitting_public_facts_is_refused),
        T(a_fork_behind_the_branchs_wal_is_refused),
        T(a_fork_behind_the_branchs_chunks_is_refused),
        T(a_fork_that_the_lineage_contradicts_is_refused),
        T(a_right_history_whose_first_segments_are_gone_is_no_damage),
        T(the_first_step_of_the_lineage_says_nothing_about_a_fork),
        T(a_further_writers_history_must_be_the_first_ones),
        T(a_damaged_index_object_is_a_warning_and_rebuilt),
        T(damage_says_which_times_it_costs),
        T(a_hole_behind_chunks_costs_the_times_after_them),
        T(a_missing_segment_behind_a_backup_is_a_hole_and_splits_the_window),
        T(a_backup_whose_wal_is_not_complete_is_not_usable),
        T(a_backup_of_a_branch_without_wal_is_not_usable),
        T(the_last_commit_of_a_window_is_found),
        T(a_cancelled_run_is_an_error_and_no_verdict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
