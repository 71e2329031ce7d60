/*
 * Tests of plans: random histories with several timelines, holes and clock jumps; every kind of
 * target against a model that looks at every record by itself.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "walagent/repo/tail.h"
#include "walagent/restore/restore.h"
#include "walagent/store/drivers.h"

#include "plan_fixture.h"
#include "wal_builder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENTS_MAX 16u
#define RECORDS_MAX 4096u
#define BACKUPS_MAX 6u
#define STEPS_MAX 4u
#define ROUNDS 10u
#define QUESTIONS 30u

typedef struct record {
    wa_lsn lsn, end;
    bool xact, commit;
    uint32_t xid;
    wa_time time;
    char name[16]; /* of a restore point; "" */
} record;

typedef struct backup {
    char label[WA_LABEL_SIZE];
    wa_lsn start, end;
    wa_time end_time;
    size_t start_step, end_step;
} backup;

typedef struct history {
    uint64_t seed;
    wa_repo *repo;
    wal_builder *wal;
    wa_lineage *lineage;
    wa_time clock;
    uint32_t xid;
    record records[RECORDS_MAX];
    size_t count;
    backup backups[BACKUPS_MAX]; /* in the order of end_time, label */
    size_t backup_count;
    wa_lsn first, tip;
    bool gone[SEGMENTS_MAX]; /* segments that are not in the archive */
} history;

static uint64_t
draw(history *h, uint64_t below)
{
    h->seed ^= h->seed << 13;
    h->seed ^= h->seed >> 7;
    h->seed ^= h->seed << 17;
    return h->seed % below;
}

static wa_lsn
aligned(wa_lsn lsn)
{
    return (lsn + 7) & ~UINT64_C(7);
}

/* ---- making a history ---- */

static void
tick(history *h)
{
    h->clock += (wa_time)draw(h, 1000);
    if (draw(h, 40) == 0)
        h->clock += (wa_time)draw(h, 20000) - 10000;
}

static void
add_branch(history *h, wa_tli tli, wa_lsn begin)
{
    wa_error err = WA_ERROR_INIT;
    char text[256] = "";
    size_t len = 0;
    for (size_t i = 0; i < h->lineage->count; i++) {
        wa_lsn end = i + 1 < h->lineage->count ? h->lineage->steps[i + 1].begin : begin;
        len +=
            (size_t)snprintf(text + len, sizeof text - len, "%u\t%X/%X\tx\n",
                             h->lineage->steps[i].branch.tli, (unsigned)(end >> 32), (unsigned)end);
    }
    wa_branch branch = wa_branch_of(SYSTEM_ID, tli, text, len, NULL, 0);
    if (tli > 1)
        OK(wa_history_put(h->repo, &branch, text, len, &err));
    wa_lineage_append(h->lineage, &branch, begin);
}

/* One record; its end is where the next one may begin. */
static void
add_record(history *h)
{
    static const char *const names[] = {"alpha", "beta", "gamma"};
    record *r = &h->records[h->count];
    *r = (record){.xid = ++h->xid, .time = h->clock};
    switch (draw(h, 12)) {
    case 0:
        snprintf(r->name, sizeof r->name, "%s", names[draw(h, 3)]);
        r->lsn = wal_add_restore_point(h->wal, r->name, r->time);
        break;
    case 1:
        r->xact = true;
        r->lsn = wal_add_abort(h->wal, r->xid, r->time);
        break;
    case 2:
        r->xact = r->commit = true;
        r->lsn = wal_add_commit_prepared(h->wal, r->xid, r->time);
        break;
    case 3:
    case 4:
    case 5:
        r->xact = r->commit = true;
        r->lsn = wal_add_commit(h->wal, r->xid, r->time);
        break;
    default:
        r->lsn = wal_add_noise(h->wal, r->xid, (uint32_t)(30 + draw(h, 60000)));
    }
    r->end = wal_position(h->wal);
    h->count++;
    tick(h);
}

static void
add_backup(history *h)
{
    if (h->backup_count == BACKUPS_MAX)
        return;
    backup *b = &h->backups[h->backup_count];
    b->start_step = h->lineage->count - 1;
    b->start = wal_position(h->wal);
    for (uint64_t n = 1 + draw(h, 5); n > 0; n--)
        add_record(h);
    b->end = wal_position(h->wal);
    b->end_step = h->lineage->count - 1;
    b->end_time = h->clock;
    snprintf(b->label, sizeof b->label, "20260101T0000%02zuZ-F-%04zx", h->backup_count,
             h->backup_count);
    h->backup_count++;
}

static void
promote(history *h)
{
    if (h->lineage->count == STEPS_MAX)
        return;
    wa_tli tli = wa_lineage_head(h->lineage)->branch.tli + 1;
    add_branch(h, tli, wal_position(h->wal));
    wal_set_tli(h->wal, tli);
}

static void
grow(history *h)
{
    size_t segments = 3 + (size_t)draw(h, 5);
    add_branch(h, 1, 0);
    h->first = wal_position(h->wal);
    while (wal_position(h->wal) < (1 + segments) * SEGMENT && h->count + 16 < RECORDS_MAX) {
        add_record(h);
        if (draw(h, 25) == 0)
            add_backup(h);
        if (draw(h, 60) == 0)
            promote(h);
        if (draw(h, 60) == 0 && wal_position(h->wal) % SEGMENT != 0) {
            wal_add_switch(h->wal);
            tick(h);
        }
    }
    if (h->backup_count == 0)
        add_backup(h);
    h->tip = wal_position(h->wal);
}

/* ---- putting it into an archive ---- */

typedef struct facts_by_segment {
    wa_wal_facts items[SEGMENTS_MAX];
} facts_by_segment;

static wa_status
collect(void *arg, const wa_record *r, wa_error *err)
{
    facts_by_segment *f = arg;
    (void)err;
    wa_wal_facts_add(&f->items[wa_segno_of(r->end - 1, SEGMENT)], r);
    return WA_OK;
}

static facts_by_segment *
make_facts(const history *h)
{
    wa_error err = WA_ERROR_INIT;
    wa_wal_end end;
    facts_by_segment *f = wa_calloc(1, sizeof *f);
    for (size_t i = 0; i < SEGMENTS_MAX; i++)
        wa_wal_facts_init(&f->items[i]);
    wa_walreader *r = wa_walreader_new(SEGMENT);
    wa_walreader_start(r, SEGMENT, 0);
    OK(wa_walreader_feed(r, wal_bytes(h->wal), wal_size(h->wal), collect, f, &end, &err));
    assert_true(wa_walreader_end(r) == h->tip);
    wa_walreader_free(r);
    return f;
}

/* Does a branch begin in the segment, behind its start? */
static bool
has_fork(const history *h, wa_segno segno)
{
    for (size_t i = 1; i < h->lineage->count; i++)
        if (wa_segno_of(h->lineage->steps[i].begin, SEGMENT) == segno)
            return true;
    return false;
}

static void
put_segment(history *h, wa_segno segno, const wa_wal_facts *facts)
{
    wa_error err = WA_ERROR_INIT;
    wa_put_outcome outcome;
    wa_lsn begin = segno * SEGMENT, end = begin + SEGMENT;
    const uint8_t *bytes = wal_bytes(h->wal) + (begin - SEGMENT);
    bool whole = end <= h->tip;
    if (whole && !has_fork(h, segno) && draw(h, 12) == 0) {
        h->gone[segno] = true;
        return;
    }
    const wa_branch *branch = wa_lineage_at(h->lineage, (whole ? end : h->tip) - 1);
    if (draw(h, 4) == 0)
        facts = NULL; /* then they come from the bytes */
    if (whole && draw(h, 6) > 0) {
        OK(wa_wal_put(h->repo, branch, segno, bytes, NULL, 1, facts, true, &outcome, &err));
    } else if (h->tip > begin) {
        size_t len = whole ? SEGMENT : (size_t)(h->tip - begin), half = len / 2;
        if (half > 0)
            OK(wa_tail_put(h->repo, branch, 1, begin, begin, bytes, half, NULL, true, &err));
        OK(wa_tail_put(h->repo, branch, 1, begin + half, begin + half, bytes + half, len - half,
                       NULL, true, &err));
    }
    /* What the parents have of a segment with a fork: nothing, a tail, or WAL that went on. */
    for (size_t i = 0; i + 1 < h->lineage->count; i++) {
        wa_lsn fork = h->lineage->steps[i + 1].begin;
        if (wa_segno_of(fork, SEGMENT) == segno && fork > begin &&
            h->lineage->steps[i].begin < fork && draw(h, 2) == 0)
            OK(wa_tail_put(h->repo, &h->lineage->steps[i].branch, 1, begin, begin, bytes,
                           (size_t)(fork - begin), NULL, true, &err));
    }
}

static void
put_backups(history *h)
{
    for (size_t i = 0; i < h->backup_count; i++) {
        const backup *b = &h->backups[i];
        wa_backup_info what = {.branch = h->lineage->steps[b->start_step].branch,
                               .end_branch = h->lineage->steps[b->end_step].branch,
                               .start_lsn = b->start,
                               .end_lsn = b->end,
                               .start_time = b->end_time,
                               .end_time = b->end_time};
        put_backup(h->repo, b->label, &what);
    }
}

static int
by_end_time(const void *a, const void *b)
{
    const backup *x = a, *y = b;
    if (x->end_time != y->end_time)
        return x->end_time < y->end_time ? -1 : 1;
    return strcmp(x->label, y->label);
}

static history *
history_new(uint64_t seed)
{
    wa_error err = WA_ERROR_INIT;
    wa_cluster identity = {.system_identifier = SYSTEM_ID, .major = 15, .segment_size = SEGMENT};
    bool created = false;
    history *h = wa_calloc(1, sizeof *h);
    h->seed = seed;
    h->xid = 700;
    h->clock = 1000000;
    OK(wa_repo_of_store(wa_store_mem_new(), "main", 1, &h->repo, &err));
    OK(wa_repo_init(h->repo, &identity, false, &created, &err));
    h->wal = wal_builder_new(NULL);
    h->lineage = wa_lineage_new();
    grow(h);
    h->lineage->epoch = 1;
    snprintf(h->lineage->writer, sizeof h->lineage->writer, "test");
    snprintf(h->lineage->reason, sizeof h->lineage->reason, "init");
    OK(wa_lineage_store(h->repo, h->lineage, &err));
    facts_by_segment *facts = make_facts(h);
    for (wa_segno segno = 1; segno * SEGMENT < h->tip; segno++)
        put_segment(h, segno, &facts->items[segno]);
    free(facts);
    put_backups(h);
    qsort(h->backups, h->backup_count, sizeof h->backups[0], by_end_time);
    return h;
}

static void
history_free(history *h)
{
    wa_lineage_free(h->lineage);
    wal_builder_free(h->wal);
    wa_repo_free(h->repo);
    free(h);
}

/* ---- the model ---- */

typedef struct answer {
    bool reachable, at_end, maybe; /* maybe: both are right */
    const backup *b;
    wa_lsn lsn, end; /* of the record; at_end: end of the stretch */
    const record *before, *after;
} answer;

static wa_lsn
model_first(const history *h)
{
    wa_lsn first = UINT64_MAX;
    for (size_t i = 0; i < h->backup_count; i++)
        first = h->backups[i].start < first ? h->backups[i].start : first;
    return first / SEGMENT * SEGMENT;
}

static bool
byte_there(const history *h, wa_lsn lsn)
{
    return lsn < h->tip && lsn >= model_first(h) && !h->gone[lsn / SEGMENT];
}

static wa_lsn
end_from(const history *h, wa_lsn lsn)
{
    while (byte_there(h, lsn)) {
        wa_lsn next = (lsn / SEGMENT + 1) * SEGMENT;
        lsn = next < h->tip ? next : h->tip;
    }
    return lsn;
}

static wa_lsn
begin_of(const history *h, wa_lsn lsn)
{
    lsn = lsn / SEGMENT * SEGMENT;
    while (lsn > model_first(h) && byte_there(h, lsn - 1))
        lsn -= SEGMENT;
    return lsn;
}

static bool
usable(const history *h, const backup *b)
{
    return end_from(h, b->start) >= b->end;
}

static bool
seen(const history *h, const record *r)
{
    return byte_there(h, r->lsn) && end_from(h, r->lsn) >= r->end;
}

static void
neighbours(const history *h, answer *a, wa_lsn boundary)
{
    wa_lsn begin = begin_of(h, a->b->start), end = end_from(h, a->b->start);
    for (size_t i = 0; i < h->count; i++) {
        const record *r = &h->records[i];
        if (!r->xact || !seen(h, r) || r->lsn < begin || r->end > end)
            continue;
        if (r->lsn < boundary)
            a->before = r;
        else if (a->after == NULL)
            a->after = r;
    }
}

static const backup *
newest(const history *h, wa_lsn lsn, wa_lsn end)
{
    const backup *best = NULL;
    for (size_t i = 0; i < h->backup_count; i++) {
        const backup *b = &h->backups[i];
        if (usable(h, b) && b->end <= lsn && end_from(h, b->start) >= end &&
            (best == NULL || b->end >= best->end))
            best = b;
    }
    return best;
}

static answer
at_record(const history *h, const record *r, bool inclusive)
{
    answer a = {.b = r == NULL ? NULL : newest(h, r->lsn, r->end)};
    if (a.b == NULL)
        return a;
    a.reachable = true;
    a.lsn = r->lsn;
    a.end = r->end;
    neighbours(h, &a, inclusive ? r->lsn + 1 : r->lsn);
    return a;
}

static answer
model_xid(const history *h, uint32_t xid, bool exclusive)
{
    const record *found = NULL;
    for (size_t i = 0; i < h->count; i++)
        if (h->records[i].xact && h->records[i].xid == xid && seen(h, &h->records[i]))
            found = &h->records[i];
    return at_record(h, found, !exclusive);
}

static answer
model_name(const history *h, const char *name)
{
    const record *found = NULL;
    for (size_t i = 0; i < h->count; i++)
        if (strcmp(h->records[i].name, name) == 0 && seen(h, &h->records[i]))
            found = &h->records[i];
    return at_record(h, found, true);
}

static wa_lsn
archive_tip(const history *h)
{
    wa_lsn tip = h->tip;
    while (tip > model_first(h) && !byte_there(h, tip - 1))
        tip = (tip - 1) / SEGMENT * SEGMENT;
    return tip;
}

/* At a hole it depends on the last time that was seen whether T is known to be reached; both
 * answers are right there, as long as one with a later time is at hand. */
static answer
model_time(const history *h, wa_time t, bool exclusive)
{
    for (size_t n = h->backup_count; n > 0; n--) {
        const backup *b = &h->backups[n - 1];
        if (!usable(h, b) || b->end_time > t)
            continue;
        wa_lsn begin = begin_of(h, b->start), end = end_from(h, b->start);
        const record *last = NULL, *found = NULL;
        bool timed = false;
        for (size_t i = 0; i < h->count; i++) {
            const record *r = &h->records[i];
            if (!seen(h, r) || r->lsn < begin || r->end > end)
                continue;
            timed = timed || ((r->xact || r->name[0] != '\0') && r->time >= t);
            if (r->xact && r->lsn < b->start)
                last = r;
            if (r->xact && r->lsn >= b->start && found == NULL &&
                (exclusive ? r->time >= t : r->time > t))
                found = r;
        }
        if (last != NULL && (exclusive ? last->time >= t : last->time > t))
            continue;
        if (found != NULL && found->lsn < b->end)
            continue;
        answer a = {.reachable = true, .b = b};
        if (found == NULL) {
            a.at_end = true;
            a.end = end;
            a.maybe = end != archive_tip(h);
            a.reachable = !a.maybe || timed;
            return a;
        }
        a.lsn = a.end = found->lsn;
        neighbours(h, &a, found->lsn);
        return a;
    }
    return (answer){0};
}

/* Segment switches and the like are records too: the next one is found by reading. */
static wa_status
first_from(void *arg, const wa_record *r, wa_error *err)
{
    wa_lsn *place = arg;
    (void)err;
    if (r->lsn < place[0])
        return WA_OK;
    place[1] = r->lsn;
    place[2] = aligned(r->end);
    return WA_CANCELLED;
}

static answer
model_lsn(const history *h, wa_lsn lsn, bool exclusive)
{
    wa_error err = WA_ERROR_INIT;
    wa_lsn place[3] = {lsn, 0, 0};
    wa_wal_end state;
    wa_lsn at = lsn > 0 && !byte_there(h, lsn) && byte_there(h, lsn - 1) ? lsn - 1 : lsn;
    if (!byte_there(h, at))
        return (answer){0};
    wa_lsn end = end_from(h, at);
    wa_walreader *r = wa_walreader_new(SEGMENT);
    wa_walreader_start(r, SEGMENT, 0);
    wa_status status = wa_walreader_feed(r, wal_bytes(h->wal), (size_t)(end - SEGMENT), first_from,
                                         place, &state, &err);
    assert_true(status == WA_OK || status == WA_CANCELLED);
    wa_walreader_free(r);
    record found = {.lsn = place[1], .end = place[2]};
    if (found.lsn != 0 && found.end <= end)
        return at_record(h, &found, !exclusive);
    answer a = {.b = newest(h, lsn, end), .at_end = true, .end = end};
    a.reachable = a.b != NULL;
    return a;
}

/* ---- the comparison ---- */

static void
same_point(const char *what, uint64_t seed, const wa_commit_point *point, const record *r)
{
    if (point->known != (r != NULL) ||
        (r != NULL && (point->lsn != r->lsn || point->xid != r->xid || point->commit != r->commit)))
        fail_msg("seed %llu: %s is %llX, the model says %llX", (unsigned long long)seed, what,
                 (unsigned long long)point->lsn, r != NULL ? (unsigned long long)r->lsn : 0);
}

static void
compare(const history *h, uint64_t seed, const wa_restore_options *o, const answer *a)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *plan = NULL;
    wa_status status = wa_restore_plan_make(o, &plan, &err);
    if (status != WA_OK && status != WA_UNREACHABLE)
        fail_msg("seed %llu, kind %d: %s", (unsigned long long)seed, (int)o->kind, err.message);
    if (status == WA_UNREACHABLE) {
        if (a->reachable && !a->maybe)
            fail_msg("seed %llu, kind %d: refused (%s), the model reaches %llX",
                     (unsigned long long)seed, (int)o->kind, err.message,
                     (unsigned long long)a->lsn);
        assert_true(err.hint[0] != '\0');
        return;
    }
    if (!a->reachable || strcmp(plan->backup->label, a->b->label) != 0 ||
        plan->end_of_archive != a->at_end || plan->target_lsn != a->lsn)
        fail_msg("seed %llu, kind %d: the plan says %s and %llX (end: %d), the model %s and %llX "
                 "(end: %d)",
                 (unsigned long long)seed, (int)o->kind, plan->backup->label,
                 (unsigned long long)plan->target_lsn, plan->end_of_archive,
                 a->reachable ? a->b->label : "unreachable", (unsigned long long)a->lsn, a->at_end);
    if (a->at_end) {
        assert_true(plan->wal_to == a->end);
        return;
    }
    same_point("before", seed, &plan->before, a->before);
    same_point("after", seed, &plan->after, a->after);
    assert_true(wa_branch_eq(&plan->branch, wa_lineage_at(h->lineage, a->lsn)));
    assert_true(wa_branch_eq(&plan->branch, &wa_lineage_head(plan->lineage)->branch));
}

static void
ask(history *h, uint64_t seed)
{
    wa_restore_options o = {.repo = h->repo, .directory = "/nonexistent"};
    const record *r = &h->records[draw(h, h->count)];
    answer a;
    o.exclusive = draw(h, 2) == 0;
    switch (draw(h, 4)) {
    case 0:
        o.kind = WA_TARGET_TIME;
        o.time = r->time + (wa_time)draw(h, 3) - 1;
        a = model_time(h, o.time, o.exclusive);
        break;
    case 1:
        o.kind = WA_TARGET_XID;
        /* With and without an epoch before it, as pg_current_xact_id() has. */
        o.xid = (uint64_t)(r->xid % 3) << 32 | r->xid;
        a = model_xid(h, r->xid, o.exclusive);
        break;
    case 2:
        o.kind = WA_TARGET_NAME;
        o.name = r->name[0] != '\0' ? r->name : "alpha";
        o.exclusive = false;
        a = model_name(h, o.name);
        break;
    default:
        o.kind = WA_TARGET_LSN;
        o.lsn = r->lsn + draw(h, 3) * 8;
        a = model_lsn(h, o.lsn, o.exclusive);
    }
    compare(h, seed, &o, &a);
}

static void
targets_are_what_a_model_finds_in_random_histories(void **state)
{
    (void)state;
    const char *given = getenv("WALAGENT_TEST_SEED");
    uint64_t first = given != NULL ? strtoull(given, NULL, 10) : 20261127;
    for (uint64_t round = 0; round < (given != NULL ? 1 : ROUNDS); round++) {
        uint64_t seed = first + round;
        history *h = history_new(seed * UINT64_C(0x9E3779B97F4A7C15) + 1);
        for (unsigned i = 0; i < QUESTIONS; i++)
            ask(h, seed);
        history_free(h);
    }
}

static void
an_empty_archive_is_refused_with_a_hint(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_cluster identity = {.system_identifier = SYSTEM_ID, .major = 15, .segment_size = SEGMENT};
    bool created = false;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *plan = NULL;
    OK(wa_repo_of_store(wa_store_mem_new(), "main", 1, &repo, &err));
    OK(wa_repo_init(repo, &identity, false, &created, &err));
    wa_restore_options o = {.repo = repo, .directory = "/nonexistent"};
    assert_int_equal(wa_restore_plan_make(&o, &plan, &err), WA_UNREACHABLE);
    assert_non_null(strstr(err.message, "no backup"));
    assert_non_null(strstr(err.hint, "walagent backup"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_archive_is_refused_with_a_hint),
        cmocka_unit_test(targets_are_what_a_model_finds_in_random_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
