/*
 * Tests of the search for transactions and restore points by sums: with and without index objects,
 * with xids that wrap around and come again, against a list of all that was written.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "restore_internal.h"

#include "walagent/repo/index.h"
#include "walagent/store/drivers.h"

#include "plan_fixture.h"
#include "wal_builder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAST 80u
#define ENDS_MAX 2048u
#define POINTS_MAX 512u
#define T0 INT64_C(800000000000000)

typedef struct archive {
    uint64_t seed;
    wa_repo *repo;
    wa_store *store;
    wa_branch branch;
    wa_lineage *lineage;
    wal_builder *wal;
    struct {
        wa_lsn lsn;
        uint32_t xid;
    } ends[ENDS_MAX]; /* in WAL order */
    size_t end_count;
    struct {
        wa_lsn lsn;
        char name[16];
    } points[POINTS_MAX];
    size_t point_count;
    bool gone[LAST + 1];
    wa_segno chunked; /* has only chunks; 0: none */
    wa_segno damaged; /* was archived with a wrong CRC; 0: none */
} archive;

static uint64_t
draw(archive *a, uint64_t below)
{
    a->seed ^= a->seed << 13;
    a->seed ^= a->seed >> 7;
    a->seed ^= a->seed << 17;
    return a->seed % below;
}

/* Few records, then a switch: what is left is zeroes. */
static void
write_segment(archive *a, uint32_t *next_xid, uint32_t step)
{
    wal_add_noise(a->wal, 0, 60);
    for (uint64_t n = draw(a, 5); n > 0; n--) {
        uint32_t xid = *next_xid - (uint32_t)draw(a, 3);
        xid = xid < 3 ? 3 : xid;
        *next_xid += step;
        a->ends[a->end_count].xid = xid;
        a->ends[a->end_count++].lsn = draw(a, 4) == 0   ? wal_add_commit_prepared(a->wal, xid, T0)
                                      : draw(a, 4) == 0 ? wal_add_abort(a->wal, xid, T0)
                                                        : wal_add_commit(a->wal, xid, T0);
    }
    for (uint64_t n = draw(a, 12) == 0 ? 1 + draw(a, 3) : 0; n > 0; n--) {
        char *name = a->points[a->point_count].name;
        snprintf(name, sizeof a->points[0].name, "point-%u", (unsigned)draw(a, 6));
        a->points[a->point_count++].lsn = wal_add_restore_point(a->wal, name, T0);
    }
    wal_add_switch(a->wal);
}

static wa_status
add_fact(void *arg, const wa_record *record, wa_error *err)
{
    (void)err;
    wa_wal_facts_add(arg, record);
    return WA_OK;
}

static void
put_segment(archive *a, wa_segno segno)
{
    wa_error err = WA_ERROR_INIT;
    wa_put_outcome outcome;
    wa_segment_check check;
    wa_wal_facts facts;
    const uint8_t *bytes = wal_bytes(a->wal) + (segno - 1) * SEGMENT;
    wa_wal_facts_init(&facts);
    OK(wa_segment_check_all(bytes, SEGMENT, segno * SEGMENT, add_fact, &facts, &check, &err));
    assert_true(check.complete);
    if (segno == a->chunked) {
        OK(wa_tail_put(a->repo, &a->branch, 1, segno * SEGMENT, segno * SEGMENT, bytes, SEGMENT,
                       NULL, true, &err));
        return;
    }
    if (segno == a->damaged) {
        uint8_t *wrong = wal_bytes_mutable(a->wal) + (segno - 1) * SEGMENT;
        wrong[100] ^= 1;
        facts.overflow = true;
        OK(wa_wal_put(a->repo, &a->branch, segno, wrong, NULL, 1, &facts, false, &outcome, &err));
        return;
    }
    if (draw(a, 40) == 0)
        facts.overflow = true;
    OK(wa_wal_put(a->repo, &a->branch, segno, bytes, NULL, 1, draw(a, 30) == 0 ? NULL : &facts,
                  true, &outcome, &err));
}

static void
archive_open(archive *a, uint64_t seed)
{
    wa_error err = WA_ERROR_INIT;
    bool created = false;
    wa_cluster identity = {.system_identifier = SYSTEM_ID, .major = 15, .segment_size = SEGMENT};
    memset(a, 0, sizeof *a);
    a->seed = seed;
    a->store = wa_store_mem_new();
    OK(wa_repo_of_store(a->store, "main", 1, &a->repo, &err));
    OK(wa_repo_init(a->repo, &identity, false, &created, &err));
    a->branch = wa_branch_of(SYSTEM_ID, 1, NULL, 0, NULL, 0);
    OK(wa_lineage_load(a->repo, &a->lineage, &err));
    a->wal = wal_builder_new(&(wal_builder_options){.system_identifier = SYSTEM_ID});
}

static void
archive_new(archive *a, uint64_t seed, uint32_t first_xid, uint32_t step)
{
    archive_open(a, seed);
    for (wa_segno s = 1; s <= LAST; s++)
        write_segment(a, &first_xid, step);
    if (draw(a, 2) == 0)
        a->gone[2 + draw(a, LAST - 3)] = true;
    a->chunked = 2 + draw(a, LAST - 3);
    for (wa_segno s = 1; s <= LAST; s++)
        if (!a->gone[s])
            put_segment(a, s);
}

static void
archive_done(archive *a)
{
    wal_builder_free(a->wal);
    wa_lineage_free(a->lineage);
    wa_repo_free(a->repo);
}

static void
check_xid(archive *a, const wa_view *v, uint32_t xid)
{
    wa_error err = WA_ERROR_INIT;
    wa_xid_search s = {0};
    wa_lsn expected = 0;
    for (size_t i = 0; i < a->end_count; i++)
        if (a->ends[i].xid == xid && !a->gone[a->ends[i].lsn / SEGMENT])
            expected = a->ends[i].lsn;
    OK(wa_search_xid(v, 0, UINT64_MAX, xid, &s, &err));
    if (s.found.lsn != expected || s.found.known != (expected != 0))
        fail_msg("xid %u: at %llx instead of %llx", xid, (unsigned long long)s.found.lsn,
                 (unsigned long long)expected);
}

static void
check_name(archive *a, const wa_view *v, const char *name)
{
    wa_error err = WA_ERROR_INIT;
    wa_point_search s = {0};
    wa_lsn expected = 0;
    size_t count = 0;
    for (size_t i = 0; i < a->point_count; i++) {
        if (strcmp(a->points[i].name, name) != 0 || a->gone[a->points[i].lsn / SEGMENT])
            continue;
        expected = a->points[i].lsn;
        count++;
    }
    OK(wa_search_name(v, 0, UINT64_MAX, name, &s, &err));
    assert_true(s.found.lsn == expected && s.count == count);
    wa_strv_done(&s.names);
}

static void
check_all(archive *a)
{
    wa_error err = WA_ERROR_INIT;
    wa_view v = {0};
    OK(wa_view_load(a->repo, a->lineage, 0, &v, &err));
    for (size_t i = 0; i < a->end_count; i += 1 + draw(a, 16))
        check_xid(a, &v, a->ends[i].xid);
    for (int i = 0; i < 10; i++)
        check_xid(a, &v, 3 + (uint32_t)draw(a, UINT64_C(0xfffffffc)));
    for (uint8_t i = 0; i < 7; i++) {
        char name[16];
        snprintf(name, sizeof name, "point-%u", i);
        check_name(a, &v, name);
    }
    wa_view_done(&v);
}

static void
what_is_searched_is_found_where_it_last_was(void **state)
{
    (void)state;
    /* Steps with which xids come again after few segments, after many, or never. */
    static const uint32_t steps[] = {1, 1000, 1u << 24, 1u << 28, 0x15555555u};
    static const uint32_t firsts[] = {700, 0xffffff80u, 0xf0000003u};
    uint64_t seed = 20261127;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (size_t run = 0; run < WA_ARRAY_SIZE(steps) * WA_ARRAY_SIZE(firsts); run++) {
        wa_error err = WA_ERROR_INIT;
        archive a;
        archive_new(&a, seed + run * 7919, firsts[run / WA_ARRAY_SIZE(steps)],
                    steps[run % WA_ARRAY_SIZE(steps)]);
        if (run % 3 == 0)
            check_all(&a);
        OK(wa_index_update(a.repo, &a.branch, LAST - draw(&a, 30), &err));
        check_all(&a);
        for (wa_segno s = 1; s <= LAST; s++) { /* what was missing comes */
            if (a.gone[s])
                put_segment(&a, s);
            a.gone[s] = false;
        }
        check_all(&a);
        archive_done(&a);
    }
}

/* Every segment has one commit, a restore point, and a time of its own. */
static void
write_plain(archive *a)
{
    for (uint32_t s = 1; s <= LAST; s++) {
        char name[16];
        snprintf(name, sizeof name, "in-%u", s);
        wal_add_noise(a->wal, 0, 60);
        a->ends[s].lsn = wal_add_commit(a->wal, 700 + s, T0 + s * 1000);
        a->points[s].lsn = wal_add_restore_point(a->wal, name, T0 + s * 1000);
        wal_add_switch(a->wal);
    }
}

static void
check_plain(archive *a, uint32_t segno)
{
    wa_error err = WA_ERROR_INIT;
    wa_view v = {0};
    wa_commit_point at = {0};
    wa_point_search point = {0};
    wa_xid_search xid = {0};
    char name[16];
    snprintf(name, sizeof name, "in-%u", segno);
    OK(wa_view_load(a->repo, a->lineage, 0, &v, &err));
    assert_int_equal(v.coverage.count, 1);
    OK(wa_search_xid(&v, 0, UINT64_MAX, 700 + segno, &xid, &err));
    assert_true(xid.found.known && xid.found.lsn == a->ends[segno].lsn);
    OK(wa_search_name(&v, 0, UINT64_MAX, name, &point, &err));
    assert_true(point.count == 1 && point.found.lsn == a->points[segno].lsn);
    OK(wa_search_time(&v, 0, UINT64_MAX, T0 + (segno - 1) * 1000, false, &at, &err));
    assert_true(at.known && at.lsn == a->ends[segno].lsn);
    OK(wa_search_time(&v, 0, UINT64_MAX, T0 + segno * 1000, true, &at, &err));
    assert_true(at.known && at.lsn == a->ends[segno].lsn);
    wa_strv_done(&point.names);
    wa_view_done(&v);
}

static void
a_segment_that_has_only_chunks_is_searched_as_any_other(void **state)
{
    (void)state;
    static const wa_segno chunked[] = {LAST - 1, 40, 32, 2};
    for (size_t i = 0; i < WA_ARRAY_SIZE(chunked); i++) {
        wa_error err = WA_ERROR_INIT;
        archive a;
        archive_open(&a, 1);
        write_plain(&a);
        a.chunked = chunked[i];
        for (wa_segno s = 1; s <= LAST; s++)
            put_segment(&a, s);
        check_plain(&a, (uint32_t)a.chunked);
        check_plain(&a, (uint32_t)a.chunked + 1);
        OK(wa_index_update(a.repo, &a.branch, LAST, &err));
        for (uint32_t s = 2; s <= LAST; s++)
            check_plain(&a, s);
        archive_done(&a);
    }
}

/* In the store, so that no facts can be read. */
static void
damage_facts(archive *a, wa_segno segno)
{
    wa_error err = WA_ERROR_INIT;
    wa_buf object = WA_BUF_INIT(1u << 24);
    char *key = wa_wal_key(a->repo, &a->branch, segno), *meta = NULL;
    uint64_t size = 0;
    OK(wa_store_head(a->store, key, &size, NULL, &meta, &err));
    OK(wa_store_get(a->store, key, 0, UINT64_MAX, &object, NULL, &err));
    uint8_t *json = memmem(object.data, object.len, "{\"v\":1", 6);
    assert_non_null(json);
    *json = '?';
    wa_body body = {.data = object.data, .len = object.len, .fd = -1};
    OK(wa_store_put(a->store, key, &body, meta, WA_PUT_REPLACE, &err));
    wa_buf_done(&object);
    free(meta);
    free(key);
}

static void
check_beside_damage(archive *a)
{
    wa_error err = WA_ERROR_INIT;
    wa_view v = {0};
    OK(wa_view_load(a->repo, a->lineage, 0, &v, &err));
    for (uint32_t segno = 20; segno <= 60; segno += 20) {
        wa_point_search point = {0};
        wa_xid_search xid = {0};
        char name[16];
        snprintf(name, sizeof name, "in-%u", segno);
        OK(wa_search_name(&v, 0, UINT64_MAX, name, &point, &err));
        OK(wa_search_xid(&v, 0, UINT64_MAX, 700 + segno, &xid, &err));
        assert_int_equal(point.damage.count, 1);
        assert_int_equal(point.damage.first.status, WA_CORRUPT);
        assert_int_equal(xid.damage.count, segno <= 40);
        if (segno == 40) {
            assert_true(point.count == 0 && !xid.found.known);
        } else {
            assert_true(point.count == 1 && point.found.lsn == a->points[segno].lsn);
            assert_true(xid.found.known && xid.found.lsn == a->ends[segno].lsn);
        }
        wa_strv_done(&point.names);
    }
    wa_view_done(&v);
}

static void
damage_ends_no_search(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    archive a;
    archive_open(&a, 1);
    write_plain(&a);
    a.damaged = 40;
    for (wa_segno s = 1; s <= LAST; s++)
        put_segment(&a, s);
    check_beside_damage(&a);
    OK(wa_index_update(a.repo, &a.branch, LAST, &err));
    check_beside_damage(&a);
    damage_facts(&a, 40);
    check_beside_damage(&a);
    archive_done(&a);
}

/* What the plan for a transaction and the one for a restore point say: some of it. */
static void
check_plans(archive *a, uint32_t segno, wa_status expected, const char *xid_says,
            const char *name_says)
{
    char name[16];
    snprintf(name, sizeof name, "in-%u", segno);
    for (int by_name = 0; by_name < 2; by_name++) {
        wa_error err = WA_ERROR_INIT;
        wa_restore_plan *plan = NULL;
        wa_restore_options o = {.repo = a->repo, .directory = "/nonexistent", .xid = 700 + segno};
        o.kind = by_name ? WA_TARGET_NAME : WA_TARGET_XID;
        o.name = by_name ? name : NULL;
        wa_status status = wa_restore_plan_make(&o, &plan, &err);
        if (status != expected)
            fail_msg("segment %u, by name %d: %s", segno, by_name, err.message);
        const char *says = by_name ? name_says : xid_says;
        const char *text = status == WA_OK ? plan->text : err.message;
        if (strstr(text, says) == NULL)
            fail_msg("segment %u, by name %d: %s", segno, by_name, text);
        wa_restore_plan_free(plan);
    }
}

static void
plans_tell_of_damage_and_reach_what_lies_before_it(void **state)
{
    (void)state;
    archive a;
    archive_open(&a, 1);
    write_plain(&a);
    a.damaged = 40;
    for (wa_segno s = 1; s <= LAST; s++)
        put_segment(&a, s);
    put_backup(a.repo, "20260101T000000Z-F-0001",
               &(wa_backup_info){.branch = a.branch,
                                 .end_branch = a.branch,
                                 .start_lsn = SEGMENT,
                                 .end_lsn = a.ends[1].lsn,
                                 .start_time = T0,
                                 .end_time = T0});
    check_plans(&a, 20, WA_OK, "1 WAL segment could not be searched",
                "1 WAL segment could not be searched");
    check_plans(&a, 39, WA_OK, "beside the target is not known", "beside the target is not known");
    check_plans(&a, 40, WA_CORRUPT, "found no end of the transaction", "found no restore point");
    check_plans(&a, 41, WA_UNREACHABLE, "can't get through WAL segment",
                "can't get through WAL segment");
    check_plans(&a, LAST + 1, WA_CORRUPT, "could not be searched", "could not be searched");
    archive_done(&a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_searched_is_found_where_it_last_was),
        cmocka_unit_test(a_segment_that_has_only_chunks_is_searched_as_any_other),
        cmocka_unit_test(damage_ends_no_search),
        cmocka_unit_test(plans_tell_of_damage_and_reach_what_lies_before_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
