/*
 * Test that questions to an archive of a million segments take few requests. Every key is there;
 * the index is as its builder would have written it; the WAL that the questions lead to is real.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "log_fixture.h"

#include "../../../src/repo/index_internal.h"
#include "walagent/audit/window.h"
#include "walagent/restore/restore.h"

#define COUNT 1000007u /* the last segment */
#define TARGET 777777u /* the middle of the real ones that a time leads to */
#define REAL 4u        /* on either side */
#define BACKUPS 10u
#define REQUESTS_MAX 50u
#define LOG_REQUESTS_MAX 32u /* no more than that only while listings and facts are kept */
#define SECOND INT64_C(1000000)
#define FIRST_XID 0xF0000001u
#define XID_STEP 6000u
#define POINT 777778u /* among the real ones */

typedef struct archive {
    history h;
    wa_branch branch;
    wa_wal_facts real[2 * REAL + 1]; /* around TARGET */
} archive;

/* Of the first of a segment's two transactions. They wrap twice. */
static uint32_t
xid_of(wa_segno segno)
{
    return FIRST_XID + (uint32_t)segno * XID_STEP;
}

/* A segment's transactions end within a second of this. */
static wa_time
time_of(wa_segno segno)
{
    return (wa_time)segno * 60 * SECOND;
}

static void
put_plain(archive *a, const char *key, const void *data, size_t len, const char *meta)
{
    wa_error err = WA_ERROR_INIT;
    wa_body body = {.data = data, .len = len, .fd = -1};
    OK(wa_store_put(a->h.store, key, &body, meta, WA_PUT_CREATE, &err));
}

/* What a line says of a segment. */
static wa_wal_facts
line_of(const archive *a, wa_segno s)
{
    if (s + REAL >= TARGET && s <= TARGET + REAL)
        return a->real[s + REAL - TARGET];
    wa_wal_facts f;
    wa_wal_facts_init(&f);
    f.records = f.commits = 2;
    f.first_record = s * SEGMENT + 40;
    f.last_end = (s + 1) * SEGMENT;
    f.min_time = time_of(s);
    f.max_time = f.last_time = time_of(s) + SECOND;
    f.min_xid = xid_of(s);
    f.max_xid = xid_of(s) + 1;
    return f;
}

/* Lines for the block of 4,096 in which the questions look at segments; elsewhere none asks. */
static void
add_lines(const archive *a, int level, wa_segno first, wa_segno end, wa_buf *out)
{
    for (wa_segno s = first; level <= WA_INDEX_LINES_LEVEL && s < end; s++) {
        if (s / 4096 != TARGET / 4096)
            return;
        wa_wal_facts f = line_of(a, s);
        wa_index_format_line(s, true, &f, out);
    }
}

/* One object as the builder writes it. */
static void
put_index(archive *a, int level, wa_segno first, wa_segno end)
{
    wa_error err = WA_ERROR_INIT;
    wa_index_object o = {.level = level, .first = first, .end = end};
    uint64_t span = wa_index_part_span(level);
    for (wa_segno at = first; at < end; at += span) {
        wa_wal_summary *part = &o.part[o.parts++];
        wa_wal_summary_init(part);
        part->segments = span;
        part->commits = span * 2;
        part->min_time = time_of(at);
        part->max_time = part->last_time = time_of(at + span - 1) + SECOND;
        /* Two transactions a segment; one restore point, in a segment that a question leads to. */
        part->min_xid = xid_of(at);
        part->max_xid = xid_of(at + span - 1) + 1;
        part->restore_points = at <= POINT && POINT < at + span;
    }
    json_t *facts = wa_index_facts(&a->branch, &o);
    wa_buf packed = WA_BUF_INIT(1u << 24), lines = WA_BUF_INIT(1u << 24);
    add_lines(a, level, first, end, &lines);
    OK(wa_container_pack(wa_buf_str(&lines), lines.len, 1, facts, NULL, &packed, &err));
    wa_buf_done(&lines);
    char *key = wa_index_key(a->h.repo, &a->branch, level, first, 1);
    put_plain(a, key, packed.data, packed.len, "{\"v\":1,\"kind\":\"index\"}");
    free(key);
    wa_buf_done(&packed);
    json_decref(facts);
}

static wa_segno
backup_at(wa_segno i)
{
    return 1 + i * (COUNT - 3000) / (BACKUPS - 1);
}

static bool
is_backup_at(wa_segno segno)
{
    for (wa_segno i = 0; i < BACKUPS; i++)
        if (backup_at(i) == segno)
            return true;
    return false;
}

/* Do the questions touch this block of 4,096? The lowest level is made for those only. */
static bool
is_asked_about(wa_segno first)
{
    for (wa_segno i = 0; i < BACKUPS; i++)
        if (backup_at(i) / 4096 == first / 4096)
            return true;
    return first / 4096 == TARGET / 4096 || first + 8192 > COUNT;
}

static void
put_all_index(archive *a)
{
    wa_segno indexed = (COUNT + 1) / 16 * 16;
    for (int level = 0; level <= 4; level++) {
        uint64_t span = wa_index_span(level), part = wa_index_part_span(level);
        wa_segno end = level == 0 ? indexed : (COUNT + 1) / part * part;
        for (wa_segno first = 0; first < end; first += span) {
            wa_segno stop = first + span < end ? first + span : end;
            if (level > 0 || is_asked_about(first))
                put_index(a, level, first, stop);
        }
    }
}

static void
put_backups(archive *a)
{
    wa_error err = WA_ERROR_INIT;
    for (wa_segno i = 0; i < BACKUPS; i++) {
        wa_segno at = backup_at(i);
        wa_backup_info *b = wa_backup_info_new();
        snprintf(b->label, sizeof b->label, "202611%02uT021400Z-F-1a2b", (unsigned)i + 1);
        b->branch = b->end_branch = a->branch;
        b->start_lsn = at * SEGMENT + 40;
        b->end_lsn = at * SEGMENT + 1000;
        b->start_time = time_of(at);
        b->end_time = time_of(at) + SECOND;
        b->major = 15;
        b->system_identifier = SYSTEM_ID;
        b->segment_size = SEGMENT;
        snprintf(b->source, sizeof b->source, "remote");
        snprintf(b->manifest_checksum, sizeof b->manifest_checksum, "CRC32C");
        OK(wa_backup_begin(a->h.repo, b, &err));
        OK(wa_backup_commit(a->h.repo, b, &err));
        wa_backup_info_free(b);
    }
}

static wa_status
add_fact(void *arg, const wa_record *record, wa_error *err)
{
    (void)err;
    wa_wal_facts_add(arg, record);
    return WA_OK;
}

/* Real segments [first, last]: commits a second apart within each. */
static void
put_real(archive *a, wa_segno first, wa_segno last)
{
    wal_builder *b = wal_builder_new(
        &(wal_builder_options){.system_identifier = SYSTEM_ID, .start = first * SEGMENT});
    for (wa_segno s = first; s <= last; s++) {
        wal_add_commit(b, xid_of(s), time_of(s));
        wal_add_noise(b, 0, 2000);
        if (s == POINT)
            wal_add_restore_point(b, "before-import", time_of(s));
        wal_add_commit(b, xid_of(s) + 1, time_of(s) + SECOND);
        wal_fill_segment(b);
    }
    for (wa_segno s = first; s <= last; s++) {
        wa_error err = WA_ERROR_INIT;
        wa_put_outcome outcome;
        wa_wal_facts facts;
        wa_segment_check check;
        wa_wal_facts_init(&facts);
        const uint8_t *bytes = wal_bytes(b) + (s - first) * SEGMENT;
        OK(wa_segment_check_all(bytes, SEGMENT, s * SEGMENT, add_fact, &facts, &check, &err));
        assert_true(check.complete && facts.commits == 2);
        if (s + REAL >= TARGET && s <= TARGET + REAL)
            a->real[s + REAL - TARGET] = facts;
        OK(wa_wal_put(a->h.repo, &a->branch, s, bytes, NULL, 1, &facts, true, &outcome, &err));
    }
    wal_builder_free(b);
}

static void
put_segments(archive *a)
{
    for (wa_segno s = 1; s <= COUNT; s++) {
        if (s + REAL == TARGET) {
            s += 2 * REAL; /* they are there */
        } else if (s == 1 || is_backup_at(s + 1)) {
            put_real(a, s, s == 1 ? 1 : s + 1);
            s += s > 1;
        } else if (s + 20 == COUNT) {
            put_real(a, s, COUNT);
            return;
        } else {
            char *key = wa_wal_key(a->h.repo, &a->branch, s);
            put_plain(a, key, "a stand-in", 10, NULL);
            free(key);
        }
    }
}

static uint64_t
requests(const archive *a)
{
    static const char *const kinds[] = {"put", "get", "head", "list", "delete"};
    uint64_t sum = 0;
    for (size_t i = 0; i < WA_ARRAY_SIZE(kinds); i++)
        sum += wa_store_requests(a->h.store, kinds[i]);
    return sum;
}

static void
count_requests(const archive *a, uint64_t before, const char *what, uint64_t most)
{
    uint64_t count = requests(a) - before;
    print_message("%s: %llu requests\n", what, (unsigned long long)count);
    assert_true(count <= most);
}

static void
few_requests(const archive *a, uint64_t before, const char *what)
{
    count_requests(a, before, what, REQUESTS_MAX);
}

static wa_restore_plan *
plan_of(archive *a, wa_restore_options o, const char *what)
{
    wa_error err = WA_ERROR_INIT;
    wa_restore_plan *plan = NULL;
    uint64_t before = requests(a);
    o.repo = a->h.repo;
    o.directory = "/nonexistent";
    OK(wa_restore_plan_make(&o, &plan, &err));
    few_requests(a, before, what);
    return plan;
}

static void
check_list(archive *a)
{
    wa_error err = WA_ERROR_INIT;
    wa_windows w = {0};
    uint64_t before = requests(a);
    OK(wa_windows_load(a->h.repo, &w, &err));
    few_requests(a, before, "list");
    assert_int_equal(w.backups.count, BACKUPS);
    assert_int_equal(w.count, 1);
    assert_int_equal(w.hole_count, 0);
    assert_true(w.items[0].end == (COUNT + UINT64_C(1)) * SEGMENT);
    assert_true(w.items[0].end_time == time_of(COUNT) + SECOND);
    wa_windows_done(&w);
}

static void
check_plans(archive *a)
{
    wa_restore_plan *plan =
        plan_of(a, (wa_restore_options){.kind = WA_TARGET_LATEST}, "restore --to-latest");
    assert_true(plan->wal_to == (COUNT + UINT64_C(1)) * SEGMENT && !plan->wal_bytes_estimated);
    assert_true(plan->before.known && plan->before.time == time_of(COUNT) + SECOND);
    wa_restore_plan_free(plan);

    wa_time t = time_of(TARGET) + SECOND / 2;
    plan = plan_of(a, (wa_restore_options){.kind = WA_TARGET_TIME, .time = t}, "restore --to-time");
    assert_true(plan->target_lsn / SEGMENT == TARGET && !plan->target_inclusive);
    assert_true(plan->before.time == time_of(TARGET));
    assert_true(plan->after.time == time_of(TARGET) + SECOND);
    wa_lsn lsn = plan->target_lsn;
    assert_true(plan->wal_from < lsn && lsn - plan->wal_from < UINT64_C(100000) * SEGMENT);
    assert_true(!plan->wal_bytes_estimated);
    assert_true(plan->wal_bytes > (lsn - plan->wal_from) / SEGMENT * 10);
    wa_restore_plan_free(plan);

    plan = plan_of(a, (wa_restore_options){.kind = WA_TARGET_LSN, .lsn = lsn}, "restore --to-lsn");
    assert_true(plan->target_lsn == lsn);
    wa_restore_plan_free(plan);

    plan = plan_of(a, (wa_restore_options){.kind = WA_TARGET_XID, .xid = xid_of(TARGET) + 1},
                   "restore --to-xid");
    assert_true(plan->target_lsn / SEGMENT == TARGET && plan->target_inclusive);
    assert_true(plan->before.xid == xid_of(TARGET) + 1);
    assert_true(plan->after.xid == xid_of(TARGET + 1));
    wa_restore_plan_free(plan);

    plan = plan_of(a, (wa_restore_options){.kind = WA_TARGET_NAME, .name = "before-import"},
                   "restore --to-name");
    assert_true(plan->target_lsn / SEGMENT == POINT && plan->target_inclusive);
    assert_true(plan->before.xid == xid_of(POINT) && plan->after.xid == xid_of(POINT) + 1);
    wa_restore_plan_free(plan);

    plan = plan_of(
        a,
        (wa_restore_options){.kind = WA_TARGET_LATEST, .backup_label = "20261101T021400Z-F-1a2b"},
        "restore from the oldest backup");
    assert_true(plan->wal_bytes_estimated);
    assert_true(plan->wal_bytes > COUNT * UINT64_C(9) && plan->wal_bytes < COUNT * UINT64_C(11));
    wa_restore_plan_free(plan);
}

static void
check_log(archive *a)
{
    wa_error err = WA_ERROR_INIT;
    wa_log_options o = {.repo = a->h.repo, .from = WA_TIME_NONE, .to = WA_TIME_NONE};
    wa_log_xacts xacts = {0};
    uint64_t before = requests(a);
    OK(wa_log_around(&o, time_of(TARGET), 2, &xacts, &err));
    few_requests(a, before, "log --around");
    assert_int_equal(xacts.count, 4);
    assert_true(xacts.items[2].end.time == time_of(TARGET));
    wa_log_xacts_done(&xacts);
}

/* Over everything: from sums. */
static void
check_overview(archive *a)
{
    wa_error err = WA_ERROR_INIT;
    wa_log_options o = {.repo = a->h.repo, .from = WA_TIME_NONE, .to = WA_TIME_NONE};
    wa_log_overview got = {0};
    uint64_t before = requests(a), commits = 0;
    OK(wa_log_overview_load(&o, 24, &got, &err));
    count_requests(a, before, "log", LOG_REQUESTS_MAX);
    assert_true(got.from_sums && got.total_commits == 2 * (uint64_t)COUNT);
    assert_true(got.first == time_of(1) && got.last == time_of(COUNT) + SECOND);
    for (size_t i = 0; i < got.count; i++) {
        wa_time begin = got.begin + (wa_time)i * got.interval_us, end = begin + got.interval_us;
        commits += got.intervals[i].commits;
        uint64_t want = 0;
        for (wa_segno s = 1; s <= COUNT; s++)
            want += (time_of(s) >= begin && time_of(s) < end) +
                    (time_of(s) + SECOND >= begin && time_of(s) + SECOND < end);
        uint64_t have = got.intervals[i].commits, apart = want > have ? want - have : have - want;
        assert_true(apart <= got.intervals[i].uncertain);
        assert_true(got.intervals[i].uncertain <= 2 * 2 * 4096);
    }
    assert_true(commits == got.total_commits);
    assert_int_equal(got.moment_count, 1);
    assert_string_equal(got.moments[0].text, "before-import");
    wa_log_overview_done(&got);
}

/* A few minutes of it: as exact as in a small archive. */
static void
check_window(archive *a)
{
    wa_error err = WA_ERROR_INIT;
    wa_log_options o = {.repo = a->h.repo,
                        .from = time_of(TARGET - 2) + SECOND,
                        .to = time_of(TARGET + 3) - SECOND};
    wa_log_overview got = {0};
    uint64_t before = requests(a);
    OK(wa_log_overview_load(&o, 4, &got, &err));
    count_requests(a, before, "log --from --to", LOG_REQUESTS_MAX);
    assert_true(!got.from_sums && got.total_commits == 1 + 2 * 4);
    assert_true(got.first == o.from && got.last == time_of(TARGET + 2) + SECOND);
    assert_int_equal(got.moment_count, 1);
    assert_true(got.moments[0].time == time_of(POINT));
    wa_log_overview_done(&got);
}

static void
questions_to_a_million_segments_take_few_requests(void **state)
{
    (void)state;
    archive a;
    history_open(&a.h);
    a.branch = wa_branch_of(SYSTEM_ID, 1, NULL, 0, NULL, 0);
    put_backups(&a);
    put_real(&a, TARGET - REAL, TARGET + REAL); /* the index has lines about them */
    put_all_index(&a);
    put_segments(&a);
    check_list(&a);
    check_plans(&a);
    check_log(&a);
    check_overview(&a);
    check_window(&a);
    history_done(&a.h);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(questions_to_a_million_segments_take_few_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
