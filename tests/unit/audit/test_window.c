/*
 * Tests of what list says about holes: between which times nothing can be reached.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_hole_lies_between_the_transactions_next_to_it),
        T(segments_without_transactions_beside_a_hole_are_looked_past),
        T(a_hole_without_transactions_beside_it_says_that_nothing_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
