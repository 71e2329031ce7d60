/*
 * Tests of log: counts, moments, neighbours and drops are those of a model over random histories.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "log_fixture.h"
#include "log_internal.h"

#define HISTORIES 12u

static bool
is_wanted(const history *h, const model_record *m, const wa_log_options *o)
{
    return m->ends && is_visible(h, m) && (o->from == WA_TIME_NONE || m->xact.time >= o->from) &&
           (o->to == WA_TIME_NONE || m->xact.time <= o->to);
}

static wa_time
some_time(history *h)
{
    for (;;) {
        const model_record *m = &h->records[next_random(&h->seed) % h->record_count];
        if (m->ends)
            return m->xact.time + (wa_time)(next_random(&h->seed) % 3) - 1;
    }
}

static void
check_intervals(const history *h, const wa_log_options *o, const wa_log_overview *got)
{
    wa_log_overview want = {.first = WA_TIME_NONE, .last = WA_TIME_NONE};
    for (size_t i = 0; i < h->record_count; i++) {
        const model_record *m = &h->records[i];
        if (!is_wanted(h, m, o))
            continue;
        wa_time t = m->xact.time;
        want.first = want.first == WA_TIME_NONE || t < want.first ? t : want.first;
        want.last = want.last == WA_TIME_NONE || t > want.last ? t : want.last;
        want.total_commits += m->xact.commit;
        want.total_aborts += !m->xact.commit;
        assert_true(t >= got->begin && got->count > 0);
        size_t at = (size_t)((t - got->begin) / got->interval_us);
        assert_true(at < got->count);
        want.intervals[at].commits += m->xact.commit;
        want.intervals[at].aborts += !m->xact.commit;
        assert_true(got->intervals[at].begin_lsn <= m->lsn);
        assert_true(got->intervals[at].end_lsn >= m->end);
    }
    assert_int_equal(got->total_commits, want.total_commits);
    assert_int_equal(got->total_aborts, want.total_aborts);
    assert_true(got->first == want.first && got->last == want.last);
    for (size_t i = 0; i < WA_LOG_INTERVALS; i++) {
        assert_int_equal(got->intervals[i].commits, want.intervals[i].commits);
        assert_int_equal(got->intervals[i].aborts, want.intervals[i].aborts);
    }
}

static const wa_moment *
find_moment(const wa_log_overview *o, wa_moment_kind kind, wa_lsn lsn)
{
    for (size_t i = 0; i < o->moment_count; i++)
        if (o->moments[i].kind == kind && o->moments[i].lsn == lsn)
            return &o->moments[i];
    return NULL;
}

static size_t
check_record_moments(const history *h, const wa_log_options *o, const wa_log_overview *got)
{
    size_t count = 0;
    bool all = o->from == WA_TIME_NONE && o->to == WA_TIME_NONE;
    for (size_t i = 0; i < h->record_count; i++) {
        const model_record *m = &h->records[i];
        wa_moment_kind kind = m->is_switch  ? WA_MOMENT_SWITCH
                              : m->is_point ? WA_MOMENT_RESTORE_POINT
                                            : WA_MOMENT_CHECKPOINT;
        wa_time t = m->is_point ? m->point.time : m->checkpoint.time;
        if ((!m->is_switch && !m->is_point && !m->is_checkpoint) || (m->is_switch && !all))
            continue;
        bool wanted =
            is_visible(h, m) && (m->is_switch || ((o->from == WA_TIME_NONE || t >= o->from) &&
                                                  (o->to == WA_TIME_NONE || t <= o->to)));
        const wa_moment *found = find_moment(got, kind, m->lsn);
        assert_true((found != NULL) == wanted);
        count += wanted;
        if (wanted && m->is_point)
            assert_string_equal(found->text, m->point.name);
        if (wanted && !m->is_switch)
            assert_true(found->time == t);
    }
    return count;
}

/* The holes, as the segments that were never stored make them. */
static size_t
check_holes(const history *h, const wa_log_overview *got)
{
    size_t count = 0;
    for (wa_segno s = 1; s + 1 < SEGMENTS_MAX; s++) {
        if (!h->missing[s] || h->missing[s - 1])
            continue;
        wa_segno end = s;
        while (h->missing[end])
            end++;
        const wa_moment *m = find_moment(got, WA_MOMENT_HOLE, s * SEGMENT);
        assert_non_null(m);
        assert_true(m->end_lsn == end * SEGMENT);
        count++;
    }
    return count;
}

static void
check_overview(history *h, wa_time from, wa_time to, size_t intervals)
{
    wa_error err = WA_ERROR_INIT;
    wa_log_options o = {.repo = h->repo, .from = from, .to = to};
    wa_log_overview got = {0};
    OK(wa_log_overview_load(&o, intervals, &got, &err));
    assert_true(got.count <= intervals);
    check_intervals(h, &o, &got);
    size_t count = check_record_moments(h, &o, &got);
    if (from == WA_TIME_NONE && to == WA_TIME_NONE) {
        for (size_t i = 0; i < h->forks; i++)
            assert_non_null(find_moment(&got, WA_MOMENT_FORK, h->fork[i]));
        count += h->forks + check_holes(h, &got);
        assert_int_equal(got.moment_count, count);
    }
    for (size_t i = 1; i < got.moment_count; i++)
        assert_true(got.moments[i - 1].lsn <= got.moments[i].lsn);
    wa_log_overview_done(&got);
}

static void
overviews_are_those_of_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= HISTORIES; seed++) {
        history h;
        history_new(&h, seed);
        print_message("seed %llu: %zu records, %zu forks\n", (unsigned long long)seed,
                      h.record_count, h.forks);
        check_overview(&h, WA_TIME_NONE, WA_TIME_NONE, 24);
        check_overview(&h, WA_TIME_NONE, WA_TIME_NONE, 1);
        for (int i = 0; i < 6; i++) {
            wa_time a = some_time(&h), b = some_time(&h);
            check_overview(&h, a < b ? a : b, a < b ? b : a,
                           1 + next_random(&h.seed) % WA_LOG_INTERVALS);
        }
        check_overview(&h, some_time(&h), WA_TIME_NONE, 7);
        check_overview(&h, WA_TIME_NONE, some_time(&h), 7);
        history_done(&h);
    }
}

/* From sums: totals are exact, an interval is as certain as it says. */
static void
check_from_sums(const history *h, const wa_log_options *o, const wa_log_overview *got)
{
    wa_log_overview want = {.first = WA_TIME_NONE, .last = WA_TIME_NONE};
    uint64_t commits = 0;
    for (size_t i = 0; i < h->record_count; i++) {
        const model_record *m = &h->records[i];
        if (!is_wanted(h, m, o))
            continue;
        wa_time t = m->xact.time;
        want.first = want.first == WA_TIME_NONE || t < want.first ? t : want.first;
        want.last = want.last == WA_TIME_NONE || t > want.last ? t : want.last;
        want.total_commits += m->xact.commit;
        want.total_aborts += !m->xact.commit;
        size_t at = (size_t)((t - got->begin) / got->interval_us);
        assert_true(t >= got->begin && at < got->count);
        want.intervals[at].commits += m->xact.commit;
        want.intervals[at].aborts += !m->xact.commit;
        assert_true(got->intervals[at].begin_lsn < m->end);
        assert_true(got->intervals[at].end_lsn >= m->end);
    }
    assert_int_equal(got->total_commits, want.total_commits);
    assert_int_equal(got->total_aborts, want.total_aborts);
    assert_true(got->first == want.first && got->last == want.last);
    for (size_t i = 0; i < WA_LOG_INTERVALS; i++) {
        const wa_log_interval *a = &got->intervals[i], *b = &want.intervals[i];
        uint64_t apart =
            a->commits > b->commits ? a->commits - b->commits : b->commits - a->commits;
        assert_true(apart <= a->uncertain);
        commits += a->commits;
    }
    assert_int_equal(commits, got->total_commits);
}

static void
check_points_from_sums(history *h, const wa_log_options *o, const wa_log_overview *got)
{
    size_t count = h->forks + check_holes(h, got);
    for (size_t i = 0; i < h->record_count; i++) {
        const model_record *m = &h->records[i];
        if (!m->is_point || !is_visible(h, m))
            continue;
        assert_non_null(find_moment(got, WA_MOMENT_RESTORE_POINT, m->lsn));
        count++;
    }
    assert_true(o->from == WA_TIME_NONE && got->moment_count == count);
}

/* Returns whether sums were used. */
static bool
check_within(history *h, wa_time from, wa_time to, uint64_t exact, unsigned refined)
{
    wa_error err = WA_ERROR_INIT;
    wa_log_options o = {.repo = h->repo, .from = from, .to = to};
    wa_log_limits limits = {.exact = exact, .refined = refined};
    wa_log_overview got = {0};
    OK(wa_log_overview_within(&o, &limits, 12, &got, &err));
    bool from_sums = got.from_sums;
    if (!from_sums)
        check_intervals(h, &o, &got);
    else
        check_from_sums(h, &o, &got);
    if (from_sums && from == WA_TIME_NONE && to == WA_TIME_NONE)
        check_points_from_sums(h, &o, &got);
    wa_log_overview_done(&got);
    return from_sums;
}

static void
overviews_from_sums_are_as_certain_as_they_say(void **state)
{
    (void)state;
    unsigned from_sums = 0, exact = 0;
    for (uint64_t seed = 1; seed <= HISTORIES; seed++) {
        history h;
        history_new(&h, seed);
        print_message("seed %llu\n", (unsigned long long)seed);
        from_sums += check_within(&h, WA_TIME_NONE, WA_TIME_NONE, 0, 0);
        from_sums += check_within(&h, WA_TIME_NONE, WA_TIME_NONE, 0, 3);
        from_sums += check_within(&h, WA_TIME_NONE, WA_TIME_NONE, 0, 1000);
        for (int i = 0; i < 8; i++) {
            wa_time a = some_time(&h), b = some_time(&h);
            bool used =
                check_within(&h, a < b ? a : b, a < b ? b : a, next_random(&h.seed) % 40, 2);
            from_sums += used;
            exact += !used;
        }
        check_within(&h, some_time(&h), WA_TIME_NONE, 8, 2);
        check_within(&h, WA_TIME_NONE, some_time(&h), 8, 2);
        history_done(&h);
    }
    assert_true(from_sums > 3 * HISTORIES && exact > 0);
}

/* ---- transactions ---- */

static void
check_relations(const history *h, const wa_log_xact *x)
{
    for (size_t i = 0; i < x->relation_count && i < WA_XACT_RELATIONS; i++) {
        bool found = false;
        for (size_t k = 0; k < h->record_count && h->records[k].lsn < x->lsn; k++) {
            const model_record *m = &h->records[k];
            bool ours = m->xid == x->end.xid ||
                        (x->end.dropped_count > 0 && m->xid == x->end.xid - 1); /* add_drop */
            found = found || (ours && m->rel == x->relations[i].rel);
        }
        assert_true(found);
    }
}

static void
check_around(history *h, wa_time t, size_t each)
{
    wa_error err = WA_ERROR_INIT;
    wa_log_options o = {.repo = h->repo, .from = WA_TIME_NONE, .to = WA_TIME_NONE};
    wa_log_xacts got = {0};
    size_t *ends = wa_calloc(h->record_count, sizeof *ends), count = 0, hit = SIZE_MAX;
    for (size_t i = 0; i < h->record_count; i++) {
        if (!is_wanted(h, &h->records[i], &o))
            continue;
        if (hit == SIZE_MAX && h->records[i].xact.time >= t)
            hit = count;
        ends[count++] = i;
    }
    hit = hit == SIZE_MAX ? count : hit;
    size_t first = hit > each ? hit - each : 0, last = hit + each < count ? hit + each : count;
    OK(wa_log_around(&o, t, each, &got, &err));
    assert_int_equal(got.damage_count, 0);
    assert_int_equal(got.count, last - first);
    for (size_t i = 0; i < got.count; i++) {
        const model_record *m = &h->records[ends[first + i]];
        assert_true(got.items[i].lsn == m->lsn && got.items[i].end_lsn == m->end);
        assert_true(got.items[i].end.time == m->xact.time && got.items[i].end.xid == m->xact.xid);
        check_relations(h, &got.items[i]);
    }
    wa_log_xacts_done(&got);
    free(ends);
}

static void
around_a_time_are_the_neighbours_in_wal_order(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= HISTORIES; seed++) {
        history h;
        history_new(&h, seed);
        print_message("seed %llu\n", (unsigned long long)seed);
        for (int i = 0; i < 12; i++)
            check_around(&h, some_time(&h), 1 + next_random(&h.seed) % 40);
        check_around(&h, WA_TIME_NONE + 1, 5);
        check_around(&h, INT64_MAX, 5);
        check_around(&h, INT64_MAX, 10000);
        history_done(&h);
    }
}

static void
check_drops(history *h, wa_time from, wa_time to)
{
    wa_error err = WA_ERROR_INIT;
    wa_log_options o = {.repo = h->repo, .from = from, .to = to};
    wa_log_xacts got = {0};
    size_t at = 0;
    const model_record *database = NULL, *mark = NULL;
    OK(wa_log_find_drops(&o, &got, &err));
    for (size_t i = 0; i < h->record_count; i++) {
        const model_record *m = &h->records[i];
        if (m->database != 0)
            database = m;
        if (m->is_mark)
            mark = m;
        bool ours =
            m->ends && database != NULL && database->xid == m->xact.xid && is_visible(h, database);
        if (!is_wanted(h, m, &o) || !m->xact.commit || (m->xact.dropped_count == 0 && !ours))
            continue;
        assert_true(at < got.count);
        const wa_log_xact *x = &got.items[at++];
        assert_true(x->lsn == m->lsn && x->end.xid == m->xact.xid);
        assert_int_equal(x->end.dropped_count, m->xact.dropped_count);
        assert_int_equal(x->dropped_database, ours ? database->database : 0);
        wa_lsn before = !ours ? m->lsn : database->database % 2 == 0 ? mark->lsn : database->lsn;
        assert_true(x->restore_lsn == before ||
                    (ours && !is_visible(h, mark) && x->restore_lsn == database->lsn));
        for (size_t k = 0; k < m->xact.dropped_count && k < 32; k++)
            assert_int_equal(x->end.dropped[k].rel, 20000 + k);
    }
    assert_int_equal(at, got.count);
    assert_int_equal(got.damage_count, 0);
    wa_log_xacts_done(&got);
}

static void
drops_are_exactly_those_of_the_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= HISTORIES; seed++) {
        history h;
        history_new(&h, seed);
        print_message("seed %llu\n", (unsigned long long)seed);
        check_drops(&h, WA_TIME_NONE, WA_TIME_NONE);
        for (int i = 0; i < 6; i++) {
            wa_time a = some_time(&h), b = some_time(&h);
            check_drops(&h, a < b ? a : b, a < b ? b : a);
        }
        check_drops(&h, some_time(&h), WA_TIME_NONE);
        check_drops(&h, WA_TIME_NONE, some_time(&h));
        history_done(&h);
    }
}

static void
what_a_transaction_and_its_subtransactions_touched_is_told(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    history h;
    history_open(&h);
    writer w = {.b = wal_builder_new(&(wal_builder_options){.system_identifier = SYSTEM_ID}),
                .seed = 1};
    add_change(&w, 701, 16390);
    add_change(&w, 702, 16391);
    add_change(&w, 701, 16390);
    add_change(&w, 703, 16392); /* somebody else's */
    add_drop(&w, 701, 1000, 702, 1);
    for (uint32_t rel = 1; rel <= 9; rel++)
        add_change(&w, 704, 16400 + rel);
    wal_add_commit(w.b, 704, 2000);
    h.branch[0] = wa_branch_of(SYSTEM_ID, 1, NULL, 0, NULL, 0);
    put_chunk(&h, &h.branch[0], w.b, wal_position(w.b));
    h.wal = w.b;

    wa_log_options o = {.repo = h.repo, .from = WA_TIME_NONE, .to = WA_TIME_NONE};
    wa_log_xacts got = {0};
    OK(wa_log_around(&o, 1000, 5, &got, &err));
    assert_int_equal(got.count, 2);
    assert_int_equal(got.items[0].relation_count, 2);
    assert_int_equal(got.items[0].relations[0].rel, 16390);
    assert_int_equal(got.items[0].relations[1].rel, 16391);
    assert_true(got.items[1].relation_count > WA_XACT_RELATIONS);
    assert_int_equal(got.items[1].relations[7].rel, 16408);
    wa_log_xacts_done(&got);
    history_done(&h);
}

/* Commits so dense that one crosses every boundary, in segments that have no facts. */
static void
commits_that_cross_into_a_segment_are_counted(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_put_outcome outcome;
    history h;
    history_open(&h);
    writer w = {.b = wal_builder_new(&(wal_builder_options){.system_identifier = SYSTEM_ID}),
                .xid = 700};
    uint64_t commits = 0;
    while (wal_position(w.b) < 4 * SEGMENT) {
        wal_add_commit(w.b, w.xid++, (wa_time)commits * 1000000);
        commits += wal_position(w.b) <= 4 * SEGMENT;
    }
    assert_true(wal_position(w.b) % SEGMENT != 0);
    h.branch[0] = wa_branch_of(SYSTEM_ID, 1, NULL, 0, NULL, 0);
    h.wal = w.b;
    for (wa_segno s = 1; s < 4; s++)
        OK(wa_wal_put(h.repo, &h.branch[0], s, wal_bytes(w.b) + (s - 1) * SEGMENT, NULL, 1, NULL,
                      true, &outcome, &err));
    wa_log_options o = {.repo = h.repo, .from = 0, .to = WA_TIME_NONE};
    wa_log_overview got = {0};
    OK(wa_log_overview_load(&o, 24, &got, &err));
    assert_int_equal(got.total_commits, commits);
    assert_true(got.last == (wa_time)(commits - 1) * 1000000);
    wa_log_overview_done(&got);
    history_done(&h);
}

static void
an_empty_archive_has_nothing_to_tell(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    history h;
    history_open(&h);
    wa_log_options o = {.repo = h.repo, .from = WA_TIME_NONE, .to = WA_TIME_NONE};
    wa_log_overview overview = {0};
    wa_log_xacts xacts = {0};
    OK(wa_log_overview_load(&o, 24, &overview, &err));
    assert_true(overview.count == 0 && overview.moment_count == 0);
    OK(wa_log_around(&o, 0, 3, &xacts, &err));
    assert_int_equal(xacts.count, 0);
    wa_log_xacts_done(&xacts);
    OK(wa_log_find_drops(&o, &xacts, &err));
    assert_int_equal(xacts.count, 0);
    wa_log_xacts_done(&xacts);
    wa_log_overview_done(&overview);
    history_done(&h);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overviews_are_those_of_the_model),
        cmocka_unit_test(overviews_from_sums_are_as_certain_as_they_say),
        cmocka_unit_test(around_a_time_are_the_neighbours_in_wal_order),
        cmocka_unit_test(drops_are_exactly_those_of_the_model),
        cmocka_unit_test(what_a_transaction_and_its_subtransactions_touched_is_told),
        cmocka_unit_test(commits_that_cross_into_a_segment_are_counted),
        cmocka_unit_test(an_empty_archive_has_nothing_to_tell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
