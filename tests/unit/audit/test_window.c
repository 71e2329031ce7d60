/*
 * Tests of what list says about holes: between which times nothing can be reached.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "walagent/repo/index.h"
#include "walagent/restore/restore.h"

#include "verify_fixture.h"

#define MINUTE INT64_C(60000000)
#define LAST 12u

/* Segments 1..12; two transactions in each but for `idle` ones, not in the order of time. */
static void
write_wal(fixture *f, wa_segno idle_from, wa_segno idle_to)
{
    wal_builder_free(f->wal);
    f->wal = wal_builder_new(NULL);
    for (wa_segno s = 1; s <= LAST; s++) {
        wal_add_noise(f->wal, 0, 100);
        if (s < idle_from || s > idle_to) {
            wal_add_commit(f->wal, 700, (wa_time)s * MINUTE + 2);
            wal_add_abort(f->wal, 701, (wa_time)s * MINUTE + 1);
        }
        wal_add_switch(f->wal);
    }
}

static void
put_without(fixture *f, wa_segno gone_from, wa_segno gone_to)
{
    for (wa_segno s = 1; s <= LAST; s++)
        if (s < gone_from || s > gone_to)
            put_segment(f, s, wal_bytes(f->wal) + (s - 1) * SEGMENT);
}

static void
a_hole_lies_between_the_transactions_next_to_it(void **state)
{
    fixture *f = *state;
    write_wal(f, 0, 0);
    put_without(f, 5, 7);
    WA_CLEANUP(wa_windows_done) wa_windows none = {0};
    OK(wa_windows_load(f->repo, &none, &f->err));
    assert_int_equal(none.hole_count, 1);
    assert_true(none.hole_times[0].reachable_from == WA_TIME_NONE);

    add_backup(f, SEGMENT + 40, SEGMENT + 80);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 1);
    assert_true(w.holes[0].begin == 5 * (wa_lsn)SEGMENT && w.holes[0].end == 8 * (wa_lsn)SEGMENT);
    assert_true(w.hole_times[0].last_before == 4 * MINUTE + 2);
    assert_true(w.hole_times[0].first_after == 8 * MINUTE + 1);
    assert_true(w.hole_times[0].reachable_from == WA_TIME_NONE);

    add_backup(f, 9 * (wa_lsn)SEGMENT + 40, 9 * (wa_lsn)SEGMENT + 80);
    WA_CLEANUP(wa_windows_done) wa_windows again = {0};
    OK(wa_windows_load(f->repo, &again, &f->err));
    assert_int_equal(again.backups.count, 2);
    const wa_backup_info *second = again.backups.items[0]->start_lsn > SEGMENT * 5
                                       ? again.backups.items[0]
                                       : again.backups.items[1];
    assert_true(again.hole_times[0].reachable_from == second->end_time);

    WA_CLEANUP(wa_json_freep) json_t *json = wa_windows_to_json(f->repo, &again);
    const json_t *hole = json_array_get(json_object_get(json, "holes"), 0);
    assert_string_equal(wa_json_string_or(hole, "last_time_before", ""),
                        "2000-01-01T00:04:00.000002Z");
    assert_string_equal(wa_json_string_or(hole, "first_time_after", ""),
                        "2000-01-01T00:08:00.000001Z");
    assert_true(json_is_string(json_object_get(hole, "reachable_from_time")));
}

static void
segments_without_transactions_beside_a_hole_are_looked_past(void **state)
{
    fixture *f = *state;
    write_wal(f, 4, 8);
    put_without(f, 5, 7);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 1);
    assert_true(w.hole_times[0].last_before == 3 * MINUTE + 2);
    assert_true(w.hole_times[0].first_after == 9 * MINUTE + 1);
}

static void
a_hole_without_transactions_beside_it_says_that_nothing_is_known(void **state)
{
    fixture *f = *state;
    write_wal(f, 1, LAST);
    put_without(f, 5, 7);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_true(w.hole_times[0].last_before == WA_TIME_NONE);
    assert_true(w.hole_times[0].first_after == WA_TIME_NONE);
    WA_CLEANUP(wa_json_freep) json_t *json = wa_windows_to_json(f->repo, &w);
    const json_t *hole = json_array_get(json_object_get(json, "holes"), 0);
    assert_true(json_is_null(json_object_get(hole, "first_time_after")));
}

/* Timeline 1 goes on past 2's fork in segment 3, and of 2 only segment 5 is archived: the hole
 * begins at the fork. */
typedef struct forked {
    wa_branch child;
    wa_lsn fork;
} forked;

static forked
write_forked(fixture *f, bool commits_before)
{
    forked k = {.fork = 0};
    wa_put_outcome outcome;
    char lsn[WA_LSN_TEXT];
    wal_builder_free(f->wal);
    f->wal = wal_builder_new(NULL);
    wal_builder *own = wal_builder_new(NULL), *both[] = {f->wal, own};
    for (size_t i = 0; i < 2; i++) {
        wal_builder *b = both[i];
        for (wa_segno s = 1; s <= 2; s++) {
            wal_add_commit(b, 700, (wa_time)s * MINUTE);
            wal_add_switch(b);
        }
        wal_add_noise(b, 0, 100);
        if (commits_before)
            wal_add_commit(b, 701, 3 * MINUTE);
        k.fork = wal_position(b);
        if (b == own)
            wal_set_tli(b, 2);
        wal_add_noise(b, 0, 100);
        wal_add_commit(b, 702, (b == own ? 40 : 30) * MINUTE); /* past the fork */
        wal_add_switch(b);
        wal_add_noise(b, 0, 100);
        wal_add_commit(b, 703, 50 * MINUTE);
        wal_add_switch(b);
        wal_add_commit(b, 704, 60 * MINUTE);
        wal_add_switch(b);
    }
    WA_CLEANUP(wa_freep)
    char *history = wa_format("1\t%s\tno reason\n", wa_lsn_format(k.fork, lsn));
    k.child = wa_branch_of(SYSTEM, 2, history, strlen(history), NULL, 0);
    OK(wa_history_put(f->repo, &k.child, history, strlen(history), &f->err));
    for (wa_segno s = 1; s <= 3; s++)
        put_segment(f, s, wal_bytes(f->wal) + (s - 1) * SEGMENT);
    OK(wa_wal_put(f->repo, &k.child, 5, wal_bytes(own) + 4 * SEGMENT, NULL, 1, NULL, true, &outcome,
                  &f->err));
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = wa_lineage_new();
    wa_lineage_append(l, &f->branch, 0);
    wa_lineage_append(l, &k.child, k.fork);
    l->since = wa_time_now();
    OK(wa_lineage_store(f->repo, l, &f->err));
    wal_builder_free(own);
    return k;
}

static void
a_hole_behind_a_fork_knows_nothing_of_transactions_past_the_fork(void **state)
{
    fixture *f = *state;
    forked k = write_forked(f, true);
    add_backup(f, SEGMENT + 40, SEGMENT + 80);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 1);
    assert_true(w.holes[0].begin == k.fork);
    assert_true(w.hole_times[0].last_before == 3 * MINUTE);
    assert_true(w.hole_times[0].first_after == 60 * MINUTE);
    assert_int_equal(w.count, 1);
    assert_true(w.items[0].end == k.fork);
    assert_true(w.items[0].end_time == 3 * MINUTE);
}

static void
without_transactions_up_to_the_fork_the_segment_before_tells_the_last(void **state)
{
    fixture *f = *state;
    (void)write_forked(f, false);
    add_backup(f, SEGMENT + 40, SEGMENT + 80);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 1);
    assert_true(w.hole_times[0].last_before == 2 * MINUTE);
    assert_true(w.items[0].end_time == 2 * MINUTE);
}

/* ---- what was archived unchecked ---- */

#define BEGIN 144u /* of a segment's second record, by write_wal */
#define BAD 21u    /* the unchecked one of the long archive */

static void
put_unchecked(fixture *f, wa_segno segno, const void *bytes)
{
    wa_put_outcome outcome;
    OK(wa_wal_put(f->repo, &f->branch, segno, bytes, NULL, 1, NULL, false, &outcome, &f->err));
}

/* Its records end behind the first one, in zeroes. */
static void
put_short(fixture *f, wa_segno segno)
{
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_calloc(1, SEGMENT);
    memcpy(bytes, wal_bytes(f->wal) + (segno - 1) * SEGMENT, BEGIN);
    put_unchecked(f, segno, bytes);
}

static void
an_unchecked_segment_whose_records_end_early_splits_the_window(void **state)
{
    fixture *f = *state;
    write_wal(f, 0, 0);
    put_without(f, 5, 5);
    put_short(f, 5);
    add_backup(f, SEGMENT + 40, SEGMENT + 80);
    add_backup(f, 9 * (wa_lsn)SEGMENT + 40, 9 * (wa_lsn)SEGMENT + 80);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 1);
    assert_true(w.holes[0].begin == 5 * (wa_lsn)SEGMENT + BEGIN);
    assert_true(w.holes[0].end == 6 * (wa_lsn)SEGMENT);
    assert_true(w.hole_times[0].archived && w.hole_times[0].last_before == 4 * MINUTE + 2);
    assert_int_equal(w.count, 2);
    assert_true(w.items[0].end == w.holes[0].begin && w.items[0].end_time == 4 * MINUTE + 2);
    assert_true(w.items[1].end == 13 * (wa_lsn)SEGMENT);
    WA_CLEANUP(wa_json_freep) json_t *json = wa_windows_to_json(f->repo, &w);
    assert_true(json_is_true(
        json_object_get(json_array_get(json_object_get(json, "holes"), 0), "archived")));
}

static void
a_hole_without_wal_is_not_said_to_be_archived(void **state)
{
    fixture *f = *state;
    write_wal(f, 0, 0);
    put_without(f, 5, 7);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_true(w.hole_count == 1 && !w.hole_times[0].archived);
}

static void
records_may_end_early_where_the_archive_ends(void **state)
{
    fixture *f = *state;
    write_wal(f, 0, 0);
    put_without(f, LAST, LAST);
    put_short(f, LAST);
    add_backup(f, SEGMENT + 40, SEGMENT + 80);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 0);
    assert_true(w.count == 1 && w.items[0].end == (LAST + 1) * (wa_lsn)SEGMENT);
}

static wa_status
add_fact(void *arg, const wa_record *record, wa_error *err)
{
    (void)err;
    wa_wal_facts_add(arg, record);
    return WA_OK;
}

typedef struct record_at {
    wa_lsn wanted, lsn, end;
} record_at;

static wa_status
take_record(void *arg, const wa_record *record, wa_error *err)
{
    record_at *r = arg;
    (void)err;
    if (record->end <= r->wanted)
        return WA_OK;
    r->lsn = record->lsn;
    r->end = (record->end + 7) & ~UINT64_C(7);
    return WA_CANCELLED;
}

/* The record that holds the byte at `lsn`. */
static record_at
record_with(fixture *f, wa_lsn lsn)
{
    record_at r = {.wanted = lsn};
    WA_CLEANUP(wa_walreader_freep) wa_walreader *reader = wa_walreader_new(SEGMENT);
    wa_walreader_start(reader, SEGMENT, 0);
    assert_int_equal(wa_walreader_feed(reader, wal_bytes(f->wal), wal_size(f->wal), take_record, &r,
                                       NULL, &f->err),
                     WA_CANCELLED);
    assert_true(r.lsn <= lsn && r.end > lsn);
    return r;
}

static size_t
count_real_damage(const wa_verify_result *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->damage_count; i++)
        n += !r->damage[i].warning;
    return n;
}

/* Twenty of 40 segments, one by one. Nothing is wrong with them, but for `bad`. */
static void
put_every_second_unchecked(fixture *f, wa_segno bad)
{
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(SEGMENT);
    for (wa_segno s = 1; s <= 40; s++) {
        memcpy(bytes, wal_bytes(f->wal) + (s - 1) * SEGMENT, SEGMENT);
        bytes[SEGMENT / 3] ^= s == bad;
        if (s % 2 == 0)
            put_unchecked(f, s, bytes);
        else
            put_segment(f, s, bytes);
    }
    OK(wa_index_update(f->repo, &f->branch, 40, &f->err));
}

/* What was not read is neither a hole nor a reason against a backup. */
static void
of_many_unchecked_segments_those_that_were_not_read_are_told(void **state)
{
    fixture *f = *state;
    put_every_second_unchecked(f, 0);
    add_backup(f, SEGMENT + 40, SEGMENT + 80);
    add_backup(f, 36 * (wa_lsn)SEGMENT + SEGMENT / 2, 36 * (wa_lsn)SEGMENT + SEGMENT * 3 / 4);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 0);
    assert_true(w.count == 1 && w.usable[0] && w.usable[1]);
    assert_true(w.unread_from == 34 * (wa_lsn)SEGMENT);
    WA_CLEANUP(wa_json_freep) json_t *json = wa_windows_to_json(f->repo, &w);
    assert_string_equal(json_string_value(json_object_get(json, "unread_from_lsn")), "0/2200000");

    WA_CLEANUP(wa_verify_result_done) wa_verify_result all = verify(f, false);
    assert_int_equal(count_real_damage(&all), 0);
    assert_int_equal(count_kind(&all, "unchecked"), 20);
    WA_CLEANUP(wa_verify_result_done) wa_verify_result none = {0};
    wa_verify_options options = {.repo = f->repo, .jobs = 1};
    OK(wa_verify_run(&options, &none, &f->err));
    assert_int_equal(count_real_damage(&none), 0);
    assert_int_equal(count_kind(&none, "unchecked"), 1);
}

static void
of_many_unchecked_segments_the_first_ones_are_read(void **state)
{
    fixture *f = *state;
    record_at bad = record_with(f, 32 * (wa_lsn)SEGMENT + SEGMENT / 3);
    put_every_second_unchecked(f, 32);
    add_backup(f, SEGMENT + 40, SEGMENT + 80);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 1);
    assert_true(w.holes[0].begin == bad.lsn && w.hole_times[0].archived);
    assert_true(w.holes[0].end == 33 * (wa_lsn)SEGMENT);
    assert_true(w.unread_from == 34 * (wa_lsn)SEGMENT);
}

static void
neighbours_that_were_archived_unchecked_are_read_as_far_as_that_goes(void **state)
{
    fixture *f = *state;
    for (wa_segno s = 1; s <= 40; s++)
        if (s >= 10 && s < 30)
            put_unchecked(f, s, wal_bytes(f->wal) + (s - 1) * SEGMENT);
        else
            put_segment(f, s, wal_bytes(f->wal) + (s - 1) * SEGMENT);
    OK(wa_index_update(f->repo, &f->branch, 40, &f->err));
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 0);
    assert_true(w.unread_from == 26 * (wa_lsn)SEGMENT);
}

static uint64_t
requests(const fixture *f)
{
    const wa_store *s = wa_repo_store(f->repo);
    return wa_store_requests(s, "get") + wa_store_requests(s, "head") +
           wa_store_requests(s, "list");
}

/* One in 16, so that each needs an object of the index. */
static void
of_many_unchecked_segments_no_more_are_looked_for_than_are_read(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_calloc(1, SEGMENT);
    memcpy(bytes, "\x99\xD1", 2); /* nobody can read them */
    for (wa_segno s = 1; s <= 1104; s++) {
        wa_put_outcome outcome;
        wa_wal_facts facts;
        wa_wal_facts_init(&facts);
        facts.records = 1;
        facts.first_record = facts.last_record = s * SEGMENT + 40;
        facts.last_end = s * SEGMENT + 100;
        OK(wa_wal_put(f->repo, &f->branch, s, bytes, NULL, 1, &facts, s % 16 != 8, &outcome,
                      &f->err));
    }
    OK(wa_index_update(f->repo, &f->branch, 1103, &f->err));
    uint64_t before = requests(f);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    print_message("list: %d requests\n", (int)(requests(f) - before));
    assert_true(w.unread_from == (16 * 16 + 8) * (wa_lsn)SEGMENT);
    assert_in_range(requests(f) - before, 1, 80);

    add_backup(f, SEGMENT + 40, SEGMENT + 100);
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *plan = NULL;
    wa_restore_options o = {.repo = f->repo,
                            .directory = "/nonexistent",
                            .kind = WA_TARGET_LATEST,
                            .read_wal_max = SEGMENT};
    before = requests(f);
    OK(wa_restore_plan_make(&o, &plan, &f->err));
    print_message("restore: %d requests\n", (int)(requests(f) - before));
    assert_non_null(
        strstr(plan->text, "at least 1 more WAL segments that were archived unchecked"));
    assert_in_range(requests(f) - before, 1, 140);
}

/* A long archive with an index; one byte of segment BAD is wrong. */
static void
put_one_bad(fixture *f, size_t at)
{
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(SEGMENT);
    put_segments(f, BAD - 1);
    memcpy(bytes, wal_bytes(f->wal) + (BAD - 1) * SEGMENT, SEGMENT);
    bytes[at] ^= 1;
    put_unchecked(f, BAD, bytes);
    OK(wa_index_update(f->repo, &f->branch, SEGMENTS, &f->err));
}

static void
a_backup_that_begins_behind_a_bad_record_is_usable(void **state)
{
    fixture *f = *state;
    record_at bad = record_with(f, BAD * (wa_lsn)SEGMENT + SEGMENT / 3);
    record_at next = record_with(f, BAD * (wa_lsn)SEGMENT + SEGMENT * 3 / 4);
    assert_true(next.lsn >= bad.end);
    put_one_bad(f, SEGMENT / 3);
    add_backup(f, SEGMENT + 40, SEGMENT + 80);
    add_backup(f, next.lsn, next.end);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 1);
    assert_true(w.holes[0].begin == bad.lsn && w.holes[0].end == next.lsn);
    assert_true(w.count == 2 && w.usable[0] && w.usable[1]);
    assert_true(w.items[0].end == bad.lsn && w.items[1].begin == next.end);
}

/* It is whole in the next, checked segment only. */
static void
a_bad_record_that_goes_on_in_the_next_segment_is_found(void **state)
{
    fixture *f = *state;
    record_at bad = record_with(f, (BAD + 1) * (wa_lsn)SEGMENT - 1);
    assert_true(bad.end > (BAD + 1) * (wa_lsn)SEGMENT);
    put_one_bad(f, SEGMENT - 1);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 1);
    assert_true(w.holes[0].begin == bad.lsn);
    assert_true(w.holes[0].end == (BAD + 2) * (wa_lsn)SEGMENT);
}

/* As archive-push stores such a segment: it looks for no record behind the bad one. */
static void
put_unknown(fixture *f, wa_segno segno, const void *bytes)
{
    wa_put_outcome outcome;
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    wa_wal_facts_init(facts);
    facts->overflow = true;
    OK(wa_wal_put(f->repo, &f->branch, segno, bytes, NULL, 1, facts, false, &outcome, &f->err));
}

static void
a_bad_record_that_leads_into_a_segment_of_which_nothing_is_known_is_found(void **state)
{
    fixture *f = *state;
    record_at bad = record_with(f, BAD * (wa_lsn)SEGMENT - 1);
    record_at next = record_with(f, BAD * (wa_lsn)SEGMENT + SEGMENT * 3 / 4);
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(SEGMENT);
    assert_true(bad.end > BAD * (wa_lsn)SEGMENT + 61 && bad.end <= next.lsn);
    memcpy(bytes, wal_bytes(f->wal) + (BAD - 1) * SEGMENT, SEGMENT);
    bytes[60] ^= 1;
    put_segments(f, BAD - 1);
    put_unknown(f, BAD, bytes);
    add_backup(f, SEGMENT + 40, SEGMENT + 80);
    add_backup(f, next.lsn, next.end);
    for (int indexed = 0; indexed < 2; indexed++) {
        WA_CLEANUP(wa_windows_done) wa_windows w = {0};
        OK(wa_windows_load(f->repo, &w, &f->err));
        assert_int_equal(w.hole_count, 1);
        assert_true(w.holes[0].begin == bad.lsn && w.hole_times[0].archived);
        assert_true(w.holes[0].end == next.lsn);
        assert_true(w.count == 2 && w.usable[0] && w.usable[1]);
        assert_true(w.items[0].end == bad.lsn && w.items[1].begin == next.end);
        OK(wa_index_update(f->repo, &f->branch, SEGMENTS, &f->err));
    }
}

/* It is no damage. */
static void
segments_of_a_major_that_nobody_can_read_are_no_hole(void **state)
{
    fixture *f = *state;
    wal_builder_free(f->wal);
    f->wal = wal_builder_new(&(wal_builder_options){.magic = 0xD199});
    for (wa_segno s = 1; s <= 40; s++) {
        wal_add_noise(f->wal, 0, 100);
        wal_add_switch(f->wal);
    }
    for (wa_segno s = 1; s <= 40; s++)
        put_unchecked(f, s, wal_bytes(f->wal) + (s - 1) * SEGMENT);
    add_backup(f, SEGMENT + 40, SEGMENT + 80);
    for (int indexed = 0; indexed < 2; indexed++) {
        WA_CLEANUP(wa_windows_done) wa_windows w = {0};
        OK(wa_windows_load(f->repo, &w, &f->err));
        assert_int_equal(w.hole_count, 0);
        assert_true(w.count == 1 && w.usable[0] && (indexed || w.unread_from != 0));
        OK(wa_index_update(f->repo, &f->branch, 40, &f->err));
    }
}

/* The facts of the segment hold both sides of the bad record. */
static void
a_bad_record_lies_between_the_transactions_next_to_it(void **state)
{
    fixture *f = *state;
    wa_lsn bad = 0, start = 0, end = 0;
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(SEGMENT);
    wal_builder_free(f->wal);
    f->wal = wal_builder_new(NULL);
    for (wa_segno s = 1; s <= LAST; s++) {
        wal_add_commit(f->wal, 700, (wa_time)s * MINUTE);
        bad = s == 5 ? wal_position(f->wal) : bad;
        wal_add_noise(f->wal, 0, 20000);
        start = s == 5 ? wal_position(f->wal) : start;
        wal_add_noise(f->wal, 0, 20000);
        end = s == 5 ? wal_position(f->wal) : end;
        wal_add_commit(f->wal, 702, (wa_time)s * MINUTE + MINUTE / 2);
        wal_add_switch(f->wal);
    }
    put_without(f, 5, 5);
    memcpy(bytes, wal_bytes(f->wal) + 4 * SEGMENT, SEGMENT);
    wa_wal_facts facts;
    wa_segment_check check;
    wa_put_outcome outcome;
    wa_wal_facts_init(&facts);
    OK(wa_segment_check_all(bytes, SEGMENT, 5 * (wa_lsn)SEGMENT, add_fact, &facts, &check,
                            &f->err));
    facts.overflow = true; /* as a receiver stores it: it goes on behind the bad page */
    bytes[bad % SEGMENT + 3000] ^= 1;
    OK(wa_wal_put(f->repo, &f->branch, 5, bytes, NULL, 1, &facts, false, &outcome, &f->err));
    add_backup(f, SEGMENT + 40, SEGMENT + 80);
    add_backup(f, start, end);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 1);
    assert_true(w.holes[0].begin == bad && w.holes[0].end == start);
    assert_true(w.hole_times[0].last_before == 5 * MINUTE);
    assert_true(w.hole_times[0].first_after > 5 * MINUTE);
    assert_true(w.count == 2 && w.items[0].end_time == 5 * MINUTE);
    assert_true(w.items[1].end_time == LAST * MINUTE + MINUTE / 2);
}

/* Else it would not be told why the window ends before the archive does. */
static void
a_bad_record_at_the_end_of_the_archive_is_a_hole(void **state)
{
    fixture *f = *state;
    write_wal(f, 0, 0);
    put_without(f, LAST, LAST);
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(SEGMENT);
    memcpy(bytes, wal_bytes(f->wal) + (LAST - 1) * SEGMENT, SEGMENT);
    bytes[BEGIN + 25] ^= 1;
    put_unchecked(f, LAST, bytes);
    add_backup(f, SEGMENT + 40, SEGMENT + 80);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 1);
    assert_true(w.holes[0].begin == LAST * (wa_lsn)SEGMENT + BEGIN && w.hole_times[0].archived);
    assert_true(w.holes[0].end == (LAST + 1) * (wa_lsn)SEGMENT);
    assert_true(w.hole_times[0].last_before == (LAST - 1) * MINUTE + 2);
    assert_true(w.count == 1 && w.items[0].end == w.holes[0].begin);
}

/* Nobody replays it. */
static void
a_bad_record_before_the_oldest_backup_is_no_hole(void **state)
{
    fixture *f = *state;
    record_at start = record_with(f, BAD * (wa_lsn)SEGMENT + SEGMENT / 2);
    put_one_bad(f, SEGMENT / 6);
    add_backup(f, start.lsn, start.end);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 0);
    assert_true(w.count == 1 && w.usable[0]);
}

/* ---- the unfinished segment ---- */

#define TAIL (LAST * (wa_lsn)SEGMENT)

/* Chunks [TAIL, middle) and [middle, end) in place of the last segment. */
static void
put_tail(fixture *f, const uint8_t *bytes, size_t middle, size_t end, bool checked)
{
    OK(wa_tail_put(f->repo, &f->branch, 1, TAIL, TAIL, bytes, middle, NULL, checked, &f->err));
    OK(wa_tail_put(f->repo, &f->branch, 1, TAIL + middle, TAIL + middle, bytes + middle,
                   end - middle, NULL, true, &f->err));
}

static void
a_bad_record_in_unchecked_chunks_ends_the_window(void **state)
{
    for (int checked = 0; checked < 2; checked++) {
        fixture *f = *state;
        if (checked)
            setup((void **)&f);
        write_wal(f, 0, 0);
        put_without(f, LAST, LAST);
        WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(SEGMENT);
        memcpy(bytes, wal_bytes(f->wal) + (LAST - 1) * SEGMENT, SEGMENT);
        bytes[BEGIN + 25] ^= 1;
        put_tail(f, bytes, BEGIN + 32, BEGIN + 100, checked);
        add_backup(f, SEGMENT + 40, SEGMENT + 80);
        WA_CLEANUP(wa_windows_done) wa_windows w = {0};
        OK(wa_windows_load(f->repo, &w, &f->err));
        assert_int_equal(w.count, 1);
        assert_int_equal(w.hole_count, !checked); /* what was checked is not read again */
        assert_true(w.items[0].end == TAIL + BEGIN + (checked ? 100 : 0));
        if (checked) {
            void *own = f;
            teardown(&own);
            continue;
        }
        assert_true(w.holes[0].begin == TAIL + BEGIN && w.hole_times[0].archived);
        assert_true(w.holes[0].end == TAIL + BEGIN + 100);
        assert_true(w.hole_times[0].last_before == (LAST - 1) * MINUTE + 2);
        assert_true(w.items[0].end_time == (LAST - 1) * MINUTE + 2);
    }
}

static void
unchecked_chunks_that_can_be_followed_are_no_hole(void **state)
{
    fixture *f = *state;
    write_wal(f, 0, 0);
    put_without(f, LAST, LAST);
    put_tail(f, (const uint8_t *)wal_bytes(f->wal) + (LAST - 1) * SEGMENT, BEGIN + 32, BEGIN + 100,
             false);
    add_backup(f, SEGMENT + 40, SEGMENT + 80);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 0);
    assert_true(w.unread_from == 0 && w.count == 1);
    assert_true(w.items[0].end == TAIL + BEGIN + 100);
}

static void
unchecked_chunks_of_a_major_that_nobody_can_read_are_no_hole(void **state)
{
    fixture *f = *state;
    wal_builder_free(f->wal);
    f->wal = wal_builder_new(&(wal_builder_options){.magic = 0xD199});
    for (wa_segno s = 1; s <= LAST; s++) {
        wal_add_noise(f->wal, 0, 100);
        wal_add_switch(f->wal);
    }
    for (wa_segno s = 1; s < LAST; s++)
        put_unchecked(f, s, wal_bytes(f->wal) + (s - 1) * SEGMENT);
    put_tail(f, (const uint8_t *)wal_bytes(f->wal) + (LAST - 1) * SEGMENT, 60, 120, false);
    add_backup(f, SEGMENT + 40, SEGMENT + 80);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_int_equal(w.hole_count, 0);
    assert_true(w.unread_from == 0 && w.count == 1 && w.items[0].end == TAIL + 120);
}

/* A part of what gathered in a large segment has no facts. */
static void
chunks_without_facts_are_looked_into_for_the_last_transaction(void **state)
{
    fixture *f = *state;
    write_wal(f, 0, 0);
    put_without(f, LAST, LAST);
    put_tail(f, (const uint8_t *)wal_bytes(f->wal) + (LAST - 1) * SEGMENT, BEGIN + 32, BEGIN + 200,
             true);
    add_backup(f, SEGMENT + 40, SEGMENT + 80);
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    OK(wa_windows_load(f->repo, &w, &f->err));
    assert_true(w.count == 1 && w.items[0].end == TAIL + BEGIN + 200);
    assert_true(w.items[0].end_time == LAST * MINUTE + 2);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_hole_lies_between_the_transactions_next_to_it),
        T(segments_without_transactions_beside_a_hole_are_looked_past),
        T(a_hole_without_transactions_beside_it_says_that_nothing_is_known),
        T(a_hole_behind_a_fork_knows_nothing_of_transactions_past_the_fork),
        T(without_transactions_up_to_the_fork_the_segment_before_tells_the_last),
        T(an_unchecked_segment_whose_records_end_early_splits_the_window),
        T(a_hole_without_wal_is_not_said_to_be_archived),
        T(records_may_end_early_where_the_archive_ends),
        T(of_many_unchecked_segments_those_that_were_not_read_are_told),
        T(of_many_unchecked_segments_the_first_ones_are_read),
        T(neighbours_that_were_archived_unchecked_are_read_as_far_as_that_goes),
        T(of_many_unchecked_segments_no_more_are_looked_for_than_are_read),
        T(a_backup_that_begins_behind_a_bad_record_is_usable),
        T(a_bad_record_that_goes_on_in_the_next_segment_is_found),
        T(a_bad_record_that_leads_into_a_segment_of_which_nothing_is_known_is_found),
        T(segments_of_a_major_that_nobody_can_read_are_no_hole),
        T(a_bad_record_lies_between_the_transactions_next_to_it),
        T(a_bad_record_at_the_end_of_the_archive_is_a_hole),
        T(a_bad_record_before_the_oldest_backup_is_no_hole),
        T(a_bad_record_in_unchecked_chunks_ends_the_window),
        T(unchecked_chunks_that_can_be_followed_are_no_hole),
        T(unchecked_chunks_of_a_major_that_nobody_can_read_are_no_hole),
        T(chunks_without_facts_are_looked_into_for_the_last_transaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
