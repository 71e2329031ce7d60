/*
 * Tests of reading the archive's records: over forks, holes and damage, each record once.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "log_fixture.h"

#include "walk_internal.h"

typedef struct seen {
    const history *h;
    wa_lsn from, to;
    size_t at; /* the next record of the model */
    size_t count, stop_after;
    wa_lsn damage_begin, damage_end;
    size_t damages;
    char why[256];
} seen;

static bool
is_due(const seen *s, const model_record *m)
{
    return m->end > s->from && m->end <= s->to && is_visible(s->h, m) &&
           (s->damages == 0 || m->end <= s->damage_begin || m->lsn >= s->damage_end);
}

static wa_status
see(void *arg, const wa_branch *branch, const wa_record *record, wa_error *err)
{
    (void)err;
    seen *s = arg;
    const history *h = s->h;
    while (s->at < h->record_count && !is_due(s, &h->records[s->at]))
        s->at++;
    assert_true(s->at < h->record_count);
    assert_true(h->records[s->at].lsn == record->lsn && h->records[s->at].end == record->end);
    size_t on = 0;
    while (on < h->forks && record->lsn >= h->fork[on])
        on++;
    assert_true(wa_branch_eq(branch, &h->branch[on]));
    s->at++;
    return ++s->count == s->stop_after ? WA_CANCELLED : WA_OK;
}

static void
see_damage(void *arg, wa_lsn begin, wa_lsn end, const char *why)
{
    seen *s = arg;
    s->damages++;
    s->damage_begin = begin;
    s->damage_end = end;
    snprintf(s->why, sizeof s->why, "%s", why);
}

typedef struct archive {
    history h;
    wa_lineage *lineage;
    wa_coverage coverage;
    fact_list *facts; /* plain_history: of the undamaged WAL */
} archive;

static void
archive_load(archive *a)
{
    wa_error err = WA_ERROR_INIT;
    OK(wa_lineage_load(a->h.repo, &a->lineage, &err));
    OK(wa_coverage_load(a->h.repo, a->lineage, 0, &a->coverage, &err));
}

static void
archive_done(archive *a)
{
    wa_lineage_free(a->lineage);
    wa_coverage_done(&a->coverage);
    free(a->facts);
    history_done(&a->h);
}

static void
walk(archive *a, seen *s)
{
    wa_error err = WA_ERROR_INIT;
    s->h = &a->h;
    wa_walk w = {.repo = a->h.repo,
                 .lineage = a->lineage,
                 .coverage = &a->coverage,
                 .on_record = see,
                 .on_damage = see_damage,
                 .arg = s};
    OK(wa_walk_records(&w, s->from, s->to, &err));
    if (s->stop_after != 0 && s->count == s->stop_after)
        return;
    while (s->at < a->h.record_count && !is_due(s, &a->h.records[s->at]))
        s->at++;
    assert_int_equal(s->at, a->h.record_count);
}

static void
every_record_that_ends_in_the_range_comes_once(void **state)
{
    (void)state;
    for (uint64_t seed = 100; seed < 108; seed++) {
        archive a = {0};
        history_new(&a.h, seed);
        archive_load(&a);
        print_message("seed %llu: %zu runs\n", (unsigned long long)seed, a.coverage.count);
        wa_lsn tip = wal_position(a.h.wal);
        walk(&a, &(seen){.from = 0, .to = UINT64_MAX});
        for (wa_segno s = 1; s <= tip / SEGMENT; s += 1 + next_random(&a.h.seed) % 3) {
            wa_lsn to = (s + 1 + next_random(&a.h.seed) % 3) * SEGMENT;
            walk(&a, &(seen){.from = s * SEGMENT, .to = to < tip ? to : tip});
        }
        for (size_t i = 0; i < a.h.forks; i++)
            walk(&a, &(seen){.from = a.h.fork[i], .to = tip});
        walk(&a, &(seen){.from = 0, .to = UINT64_MAX, .stop_after = 3});
        archive_done(&a);
    }
}

/* Four segments on timeline 1; the third is damaged by whoever calls this. */
static void
plain_history(archive *a)
{
    memset(a, 0, sizeof *a);
    history_open(&a->h);
    writer w = {.b = wal_builder_new(&(wal_builder_options){.system_identifier = SYSTEM_ID}),
                .seed = 77,
                .xid = 700};
    while (wal_position(w.b) < 5 * SEGMENT) {
        wal_add_commit(w.b, w.xid++, next_time(&w));
        wal_add_noise(w.b, 0, 900);
    }
    a->h.wal = w.b;
    a->h.branch[0] = wa_branch_of(SYSTEM_ID, 1, NULL, 0, NULL, 0);
    history_model(&a->h);
    a->facts = facts_of(a->h.wal);
}

static void
put_all(archive *a, wa_segno but)
{
    for (wa_segno s = 1; s < 5; s++)
        if (s != but)
            put_whole(&a->h, &a->h.branch[0], a->h.wal, a->facts, s);
}

static void
behind_damage_reading_goes_on(void **state)
{
    (void)state;
    archive a;
    plain_history(&a);
    wal_bytes_mutable(a.h.wal)[2 * SEGMENT + 300000] ^= 1;
    put_all(&a, 0);
    archive_load(&a);
    seen s = {.from = 0, .to = 5 * SEGMENT};
    walk(&a, &s);
    assert_int_equal(s.damages, 1);
    assert_true(s.damage_begin > 3 * SEGMENT + 290000 && s.damage_begin <= 3 * SEGMENT + 300000);
    assert_true(s.damage_end == 4 * SEGMENT);
    assert_non_null(strstr(s.why, "CRC"));
    archive_done(&a);
}

static void
behind_the_end_of_a_segments_records_reading_goes_on(void **state)
{
    (void)state;
    archive a;
    plain_history(&a);
    memset(wal_bytes_mutable(a.h.wal) + 2 * SEGMENT + 40 * WA_WAL_PAGE, 0,
           SEGMENT - 40 * WA_WAL_PAGE);
    put_all(&a, 0);
    archive_load(&a);
    seen s = {.from = 0, .to = 5 * SEGMENT};
    walk(&a, &s);
    assert_int_equal(s.damages, 1);
    assert_true(s.damage_end == 4 * SEGMENT);
    archive_done(&a);
}

static void
another_clusters_segment_is_damage(void **state)
{
    (void)state;
    archive a;
    plain_history(&a);
    wal_bytes_mutable(a.h.wal)[2 * SEGMENT + 24] ^= 1; /* the long header's system identifier */
    put_all(&a, 0);
    archive_load(&a);
    seen s = {.from = 0, .to = 5 * SEGMENT};
    walk(&a, &s);
    assert_int_equal(s.damages, 1);
    assert_true(s.damage_end == 4 * SEGMENT);
    archive_done(&a);
}

/* Flip a bit in a stored object. */
static void
damage_object(history *h, wa_segno segno)
{
    wa_error err = WA_ERROR_INIT;
    wa_buf object = WA_BUF_INIT(1u << 24);
    char *key = wa_wal_key(h->repo, &h->branch[0], segno);
    uint64_t size = 0;
    char *meta = NULL;
    OK(wa_store_head(h->store, key, &size, NULL, &meta, &err));
    OK(wa_store_get(h->store, key, 0, UINT64_MAX, &object, NULL, &err));
    object.data[object.len / 3] ^= 4;
    wa_body body = {.data = object.data, .len = object.len, .fd = -1};
    OK(wa_store_put(h->store, key, &body, meta, WA_PUT_REPLACE, &err));
    wa_buf_done(&object);
    free(meta);
    free(key);
}

static void
a_damaged_object_is_made_up_for_by_chunks_or_named(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    archive a;
    plain_history(&a);
    put_all(&a, 0);
    damage_object(&a.h, 3);
    archive_load(&a);
    seen s = {.from = 0, .to = 5 * SEGMENT};
    walk(&a, &s);
    assert_int_equal(s.damages, 1);
    assert_true(s.damage_begin == 3 * SEGMENT && s.damage_end == 4 * SEGMENT);
    OK(wa_tail_put(a.h.repo, &a.h.branch[0], 1, 3 * SEGMENT, 3 * SEGMENT,
                   wal_bytes(a.h.wal) + 2 * SEGMENT, SEGMENT, NULL, true, &err));
    s = (seen){.from = 0, .to = 5 * SEGMENT};
    walk(&a, &s);
    assert_int_equal(s.damages, 0);
    archive_done(&a);
}

static void
a_segment_in_the_middle_may_be_there_in_chunks_only(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    archive a;
    plain_history(&a);
    put_all(&a, 3);
    OK(wa_tail_put(a.h.repo, &a.h.branch[0], 1, 3 * SEGMENT, 3 * SEGMENT,
                   wal_bytes(a.h.wal) + 2 * SEGMENT, SEGMENT, NULL, true, &err));
    archive_load(&a);
    assert_int_equal(a.coverage.count, 1);
    seen s = {.from = 0, .to = 5 * SEGMENT};
    walk(&a, &s);
    assert_int_equal(s.damages, 0);

    wa_log_options o = {.repo = a.h.repo, .from = WA_TIME_NONE, .to = WA_TIME_NONE};
    wa_log_overview overview = {0};
    size_t ends = 0;
    for (size_t i = 0; i < a.h.record_count; i++)
        ends += a.h.records[i].ends && a.h.records[i].end <= 5 * SEGMENT;
    OK(wa_log_overview_load(&o, 24, &overview, &err));
    assert_int_equal(overview.total_commits, ends);
    wa_log_overview_done(&overview);
    archive_done(&a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_record_that_ends_in_the_range_comes_once),
        cmocka_unit_test(behind_damage_reading_goes_on),
        cmocka_unit_test(behind_the_end_of_a_segments_records_reading_goes_on),
        cmocka_unit_test(another_clusters_segment_is_damage),
        cmocka_unit_test(a_damaged_object_is_made_up_for_by_chunks_or_named),
        cmocka_unit_test(a_segment_in_the_middle_may_be_there_in_chunks_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
