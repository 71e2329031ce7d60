/*
 * Tests of the index: a cache that changes how many requests an answer takes, never the answer.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "repo_fixture.h"

#include "index_internal.h"
#include "walagent/repo/coverage.h"

#define LAST 620u

/* Whole segments of zeroes with facts of their own; `there` says which. */
typedef struct archive {
    fixture f;
    bool there[LAST + 1];
} archive;

static void
put_one(archive *a, wa_segno segno)
{
    wa_error err = WA_ERROR_INIT;
    static char zero[SEGMENT];
    wa_wal_facts facts = facts_at((wa_time)segno * 1000, 1 + segno % 5);
    wa_put_outcome outcome;
    OK(wa_wal_put(a->f.repo, &a->f.first, segno, zero, NULL, 1, &facts, true, &outcome, &err));
    a->there[segno] = true;
}

static void
archive_new(archive *a)
{
    memset(a, 0, sizeof *a);
    fixture_new(&a->f);
    for (wa_segno s = 37; s <= LAST; s++)
        if (s != 100 && s != 101 && (s < 300 || s > 340))
            put_one(a, s);
}

typedef struct seen {
    const archive *a;
    wa_segno next;
    uint64_t count;
} seen;

static wa_status
see(void *arg, wa_segno segno, const wa_wal_facts *facts, bool checked, wa_error *err)
{
    (void)err;
    seen *s = arg;
    for (; s->next < segno; s->next++)
        assert_false(s->a->there[s->next]);
    assert_true(s->a->there[segno]);
    assert_true(facts->commits == 1 + segno % 5);
    assert_true(facts->min_time == (wa_time)segno * 1000);
    assert_true(checked);
    s->next = segno + 1;
    s->count++;
    return WA_OK;
}

static void
check_times(archive *a, wa_segno from, wa_segno to)
{
    for (wa_segno probe = from > 3 ? from - 3 : 0; probe <= to + 3; probe += 7) {
        for (int inclusive = 0; inclusive < 2; inclusive++) {
            wa_error err = WA_ERROR_INIT;
            wa_time t = (wa_time)probe * 1000 + 10; /* the segment's max_time */
            wa_segno want = probe + (inclusive ? 0 : 1), got = 0;
            want = want < from ? from : want;
            while (want <= to && !a->there[want])
                want++;
            wa_status status =
                wa_index_find_time(a->f.repo, &a->f.first, from, to, t, inclusive != 0, &got, &err);
            if (want > to) {
                assert_int_equal(status, WA_NOT_FOUND);
                continue;
            }
            OK(status);
            assert_true(got == want);
        }
    }
}

static void
check_answers(archive *a, wa_segno from, wa_segno to)
{
    wa_error err = WA_ERROR_INIT;
    seen s = {.a = a, .next = from};
    OK(wa_index_scan(a->f.repo, &a->f.first, from, to, see, &s, &err));
    uint64_t segments = 0, commits = 0;
    for (wa_segno segno = from; segno <= to; segno++) {
        segments += a->there[segno];
        commits += a->there[segno] ? 1 + segno % 5 : 0;
    }
    assert_true(s.count == segments);
    wa_wal_summary sum;
    OK(wa_index_sum(a->f.repo, &a->f.first, from, to, &sum, &err));
    assert_true(sum.segments == segments);
    assert_true(sum.commits == commits);
    check_times(a, from, to);
}

static void
answers_are_the_same_with_and_without_the_index(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    archive a;
    archive_new(&a);
    check_answers(&a, 0, 60);
    OK(wa_index_update(a.f.repo, &a.f.first, 599, &err));
    check_answers(&a, 0, LAST);
    check_answers(&a, 95, 310);
    check_answers(&a, 123, 123);
    assert_true(count_keys(&a.f, "index/") > 30);
    fixture_done(&a.f);
}

static void
an_update_again_writes_nothing(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    archive a;
    archive_new(&a);
    OK(wa_index_update(a.f.repo, &a.f.first, LAST, &err));
    uint64_t puts = wa_store_requests(a.f.store, "put");
    OK(wa_index_update(a.f.repo, &a.f.first, LAST, &err));
    assert_true(wa_store_requests(a.f.store, "put") == puts);
    fixture_done(&a.f);
}

static void
updates_step_by_step_reach_the_same_as_one(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    archive a;
    archive_new(&a);
    for (wa_segno upto = 47; upto <= LAST; upto += 16)
        OK(wa_index_update(a.f.repo, &a.f.first, upto, &err));
    uint64_t puts = wa_store_requests(a.f.store, "put");
    OK(wa_index_update(a.f.repo, &a.f.first, LAST, &err));
    assert_true(wa_store_requests(a.f.store, "put") == puts);
    check_answers(&a, 0, LAST);
    fixture_done(&a.f);
}

static bool
know_all_but_one(void *arg, wa_segno segno, wa_wal_facts *ret, bool *ret_checked)
{
    (void)arg;
    *ret = facts_at((wa_time)segno * 1000, 1 + segno % 5);
    *ret_checked = true;
    return segno % 16 != 3;
}

static void
facts_that_the_writer_knows_are_not_read_back(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    const wa_index_known known = {know_all_but_one, NULL};
    archive a;
    archive_new(&a);
    uint64_t gets = wa_store_requests(a.f.store, "get");
    OK(wa_index_update_known(a.f.repo, &a.f.first, 63, &known, &err)); /* 37 to 63: 51 is read */
    assert_true(wa_store_requests(a.f.store, "get") - gets <= 2 + 4);  /* and two parts, twice */
    OK(wa_index_update_known(a.f.repo, &a.f.first, 599, &known, &err));
    check_answers(&a, 0, LAST);
    fixture_done(&a.f);
}

static bool
know_all(void *arg, wa_segno segno, wa_wal_facts *ret, bool *ret_checked)
{
    know_all_but_one(arg, segno, ret, ret_checked);
    return true;
}

static uint64_t
requests_of(const archive *a)
{
    static const char *const kinds[] = {"put", "get", "head", "list", "delete"};
    uint64_t sum = 0;
    for (size_t i = 0; i < WA_ARRAY_SIZE(kinds); i++)
        sum += wa_store_requests(a->f.store, kinds[i]);
    return sum;
}

/* However many parts the object has that is written again. */
static void
what_an_update_takes_does_not_grow_with_what_is_there(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    const wa_index_known known = {know_all, NULL};
    archive a;
    memset(&a, 0, sizeof a);
    fixture_new(&a.f);
    uint64_t most = 0;
    for (wa_segno segno = 0; segno < 512; segno++) {
        put_one(&a, segno);
        if ((segno + 1) % 16 != 0)
            continue;
        uint64_t before = requests_of(&a);
        OK(wa_index_update_known(a.f.repo, &a.f.first, segno, &known, &err));
        uint64_t took = requests_of(&a) - before;
        most = took > most ? took : most;
    }
    printf("an index update takes at most %llu requests\n", (unsigned long long)most);
    assert_true(most <= 40); /* where a level begins; 24 is usual */
    check_answers(&a, 0, 511);
    fixture_done(&a.f);
}

static void
holes_that_are_filled_and_segments_that_expire_are_seen_at_once(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    archive a;
    archive_new(&a);
    OK(wa_index_update(a.f.repo, &a.f.first, LAST, &err));
    put_one(&a, 100);
    for (wa_segno s = 310; s < 330; s++)
        put_one(&a, s);
    for (wa_segno s = 37; s < 75; s++) {
        char *key = wa_wal_key(a.f.repo, &a.f.first, s);
        drop(&a.f, key);
        free(key);
        a.there[s] = false;
    }
    check_answers(&a, 0, LAST);
    OK(wa_index_update(a.f.repo, &a.f.first, LAST, &err));
    check_answers(&a, 0, LAST);
    uint64_t gets = wa_store_requests(a.f.store, "get");
    wa_wal_summary sum;
    OK(wa_index_sum(a.f.repo, &a.f.first, 96, 607, &sum, &err));
    assert_true(wa_store_requests(a.f.store, "get") - gets < 40); /* they are in the index now */
    fixture_done(&a.f);
}

static void
damaged_and_missing_objects_change_no_answer_and_are_rebuilt(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    uint64_t seed = 4711;
    archive a;
    archive_new(&a);
    OK(wa_index_update(a.f.repo, &a.f.first, LAST, &err));
    for (int round = 0; round < 3; round++) {
        char *prefix = wa_repo_key(a.f.repo, "index/");
        wa_strv keys = {0};
        OK(wa_repo_list(a.f.repo, prefix, false, NULL, &keys, &err));
        for (size_t i = 0; i < keys.count; i++) {
            uint64_t dice = next_random(&seed) % 10;
            wa_buf object = WA_BUF_INIT(1u << 24);
            if (dice == 0)
                drop(&a.f, keys.items[i]);
            if (dice == 1 || dice == 2) {
                OK(wa_store_get(a.f.store, keys.items[i], 0, UINT64_MAX, &object, NULL, &err));
                object.data[next_random(&seed) % object.len] ^= 4;
                put_raw(&a.f, keys.items[i], object.data, object.len);
            }
            wa_buf_done(&object);
        }
        wa_strv_done(&keys);
        free(prefix);
        check_answers(&a, 0, LAST);
        OK(wa_index_update(a.f.repo, &a.f.first, LAST, &err));
        check_answers(&a, 0, LAST);
    }
    fixture_done(&a.f);
}

static void
an_update_survives_every_failure_and_can_be_repeated(void **state)
{
    (void)state;
    static const wa_fault faults[] = {WA_FAULT_FAIL, WA_FAULT_LOSE_REPLY};
    for (size_t kind = 0; kind < WA_ARRAY_SIZE(faults); kind++) {
        for (unsigned nth = 1;; nth += 5) {
            assert_true(nth < 2000);
            wa_error err = WA_ERROR_INIT;
            archive a;
            memset(&a, 0, sizeof a);
            fixture_new(&a.f);
            for (wa_segno s = 10; s < 34; s++)
                if (s != 20)
                    put_one(&a, s);
            wa_store_fault_set(a.f.store, "any", nth, 0, faults[kind]);
            wa_status status = wa_index_update(a.f.repo, &a.f.first, 33, &err);
            unsigned hits = wa_store_fault_hits(a.f.store);
            no_faults(&a.f);
            check_answers(&a, 0, 60);
            if (status != WA_OK)
                OK(wa_index_update(a.f.repo, &a.f.first, 33, &err));
            check_answers(&a, 0, 60);
            fixture_done(&a.f);
            if (hits == 0)
                break;
        }
    }
}

/* ---- xids in sums ---- */

typedef struct xids {
    uint32_t min, max; /* 0: the segment has no transaction */
} xids;

static uint32_t
normal(uint32_t xid)
{
    return xid < 3 ? 3 : xid;
}

/* Segments whose xids run on from base by about `step` each, with some older ones. */
static void
put_xids(fixture *f, xids *of, wa_segno count, uint32_t base, uint32_t step, uint64_t *seed)
{
    static char zero[SEGMENT];
    for (wa_segno s = 0; s < count; s++) {
        wa_error err = WA_ERROR_INIT;
        wa_wal_facts facts = facts_at((wa_time)s * 1000, 1);
        wa_put_outcome outcome;
        uint32_t at = base + (uint32_t)s * step;
        of[s] = (xids){normal(at - (uint32_t)next_random(seed) % 1000), normal(at + step)};
        if (next_random(seed) % 8 == 0)
            of[s] = (xids){0, 0};
        facts.min_xid = of[s].min;
        facts.max_xid = of[s].max;
        facts.commits = of[s].min != 0;
        OK(wa_wal_put(f->repo, &f->first, s, zero, NULL, 1, &facts, true, &outcome, &err));
    }
}

/* Does the sum say everything that its segments do? Its range is theirs, or they have none. */
static void
check_sum(const wa_wal_summary *sum, const xids *of, wa_segno from, wa_segno to, uint32_t step)
{
    bool any = false;
    for (wa_segno s = from; s < to; s++) {
        if (of[s].min == 0)
            continue;
        any = true;
        assert_true(sum->xids_unknown || (wa_xid_range_has(sum->min_xid, sum->max_xid, of[s].min) &&
                                          wa_xid_range_has(sum->min_xid, sum->max_xid, of[s].max)));
    }
    assert_true(any || (sum->min_xid == 0 && !sum->xids_unknown));
    uint64_t span = (to - from) * (uint64_t)step + 1000;
    if (span < UINT64_C(1) << 31) {
        assert_false(sum->xids_unknown);
        assert_true(!any || sum->max_xid - sum->min_xid <= span);
    }
}

static void
sums_of_xids_are_right_across_the_wrap(void **state)
{
    (void)state;
    static const uint32_t bases[] = {1500, 0xffffff00u, 0xf0000000u, 0x7fffff00u};
    static const uint32_t steps[] = {10, 100000, 0x02000000u};
    uint64_t seed = 1127;
    unsigned unknown = 0, wrapped = 0;
    print_message("seed %llu\n", (unsigned long long)seed);
    for (size_t run = 0; run < WA_ARRAY_SIZE(bases) * WA_ARRAY_SIZE(steps); run++) {
        uint32_t base = bases[run % WA_ARRAY_SIZE(bases)];
        uint32_t step = steps[run / WA_ARRAY_SIZE(bases)];
        xids of[272];
        wa_error err = WA_ERROR_INIT;
        fixture f;
        fixture_new(&f);
        put_xids(&f, of, 272, base, step, &seed);
        OK(wa_index_update(f.repo, &f.first, 271, &err));
        for (int level = 0; level < 3; level++) {
            wa_segno span = wa_index_part_span(level);
            for (wa_segno first = 0; first < 272; first += wa_index_span(level)) {
                wa_index_object o = {0};
                if (wa_index_find(f.repo, &f.first, level, first, &o, &err) != WA_OK)
                    continue;
                for (size_t i = 0; i < o.parts; i++) {
                    wa_segno at = first + i * span;
                    check_sum(&o.part[i], of, at, at + span, step);
                    unknown += o.part[i].xids_unknown;
                    wrapped += o.part[i].max_xid < o.part[i].min_xid;
                }
                wa_index_object_done(&o);
            }
        }
        wa_wal_summary sum;
        OK(wa_index_sum(f.repo, &f.first, 0, 271, &sum, &err));
        check_sum(&sum, of, 0, 272, step);
        fixture_done(&f);
    }
    assert_true(unknown > 0 && wrapped > 3);
}

/* As an earlier version wrote it: unsigned, wrong when the xids wrapped. */
static void
sums_of_earlier_versions_are_not_believed_about_xids(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    json_t *facts =
        json_pack("{s:s,s:s,s:i,s:i,s:i,s:[{s:i,s:i,s:i,s:i},{s:i,s:i,s:i,s:i}],s:[]}", "kind",
                  "index", "branch", "", "level", 1, "first", 0, "end", 32, "parts", "n", 16, "c",
                  3, "x0", 7, "x1", 9, "n", 1, "c", 3, "x0", 7, "x1", 9, "holes");
    char text[WA_BRANCH_TEXT];
    json_object_set_new(facts, "branch", json_string(wa_branch_format(&f.first, text)));
    wa_buf packed = WA_BUF_INIT(1u << 20);
    OK(wa_container_pack("", 0, 1, facts, NULL, &packed, &err));
    char *key = wa_index_key(f.repo, &f.first, 1, 0, 1);
    put_raw(&f, key, packed.data, packed.len);
    wa_index_object o = {0};
    OK(wa_index_read(f.repo, &f.first, 1, 0, 1, &o, &err));
    assert_true(o.part[0].xids_unknown);
    assert_true(!o.part[1].xids_unknown && o.part[1].min_xid == 7 && o.part[1].max_xid == 9);
    wa_index_object_done(&o);
    free(key);
    wa_buf_done(&packed);
    json_decref(facts);
    fixture_done(&f);
}

/* One object as the builder would write it, without the segments. */
static void
generate(fixture *f, int level, wa_segno first, wa_segno end)
{
    wa_error err = WA_ERROR_INIT;
    wa_index_object o = {.level = level, .first = first, .end = end};
    uint64_t span = wa_index_part_span(level);
    for (wa_segno at = first; at < end; at += span) {
        wa_wal_summary *part = &o.part[o.parts++];
        wa_wal_summary_init(part);
        part->segments = span;
        part->commits = span * 2;
        part->min_time = (wa_time)at * 1000;
        part->max_time = (wa_time)(at + span - 1) * 1000 + 10;
        part->last_time = part->max_time;
    }
    json_t *facts = wa_index_facts(&f->first, &o);
    wa_buf packed = WA_BUF_INIT(1u << 20);
    OK(wa_container_pack("", 0, 1, facts, NULL, &packed, &err));
    char *key = wa_index_key(f->repo, &f->first, level, first, 1);
    put_raw(f, key, packed.data, packed.len);
    free(key);
    wa_buf_done(&packed);
    json_decref(facts);
}

/* The index of so many segments: of the lowest levels only what questions about the targets can
 * touch. */
static void
generate_all(fixture *f, wa_segno count, const wa_segno *targets, size_t target_count)
{
    wa_segno indexed = count / 16 * 16;
    for (int level = 0; level <= 4; level++) {
        uint64_t span = wa_index_span(level), part = wa_index_part_span(level);
        wa_segno end = level == 0 ? indexed : count / part * part;
        for (wa_segno first = 0; first < end; first += span) {
            bool near = first + 8192 > end || first < 4096;
            for (size_t i = 0; i < target_count; i++)
                near = near || first / 4096 == targets[i] / 4096;
            if (level >= 2 || near)
                generate(f, level, first, first + span < end ? first + span : end);
        }
    }
    for (wa_segno s = indexed; s < count; s++)
        put_segment(f, &f->first, s, 1);
    put_segment(f, &f->first, 0, 1);
}

static void
a_million_segments_are_answered_with_few_requests(void **state)
{
    (void)state;
    const wa_segno count = 1000007, target = 777777;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    generate_all(&f, count, &target, 1);

    wa_lineage *l = NULL;
    wa_coverage c;
    wa_segno found = 0;
    OK(wa_lineage_load(f.repo, &l, &err));
    uint64_t before = requests(&f);
    OK(wa_coverage_load(f.repo, l, 0, &c, &err));
    uint64_t for_coverage = requests(&f) - before;
    assert_int_equal(c.count, 1);
    assert_true(c.runs[0].begin == 0 && c.runs[0].end == count * SEGMENT);
    OK(wa_index_find_time(f.repo, &f.first, 0, count, (wa_time)target * 1000 + 9, false, &found,
                          &err));
    assert_true(found == target);
    uint64_t both = requests(&f) - before;
    print_message("coverage %llu requests, with a time %llu\n", (unsigned long long)for_coverage,
                  (unsigned long long)both);
    assert_true(both < 50);
    wa_coverage_done(&c);
    wa_lineage_free(l);
    fixture_done(&f);
}

/* Its neighbour's listing brought the name of the block when it wasn't full. */
static void
a_block_that_grew_since_it_was_listed_is_listed_again(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    archive a;
    wa_index_object o = {0};
    memset(&a, 0, sizeof a);
    fixture_new(&a.f);
    for (wa_segno segno = 0; segno < 300; segno++)
        put_one(&a, segno);
    OK(wa_index_update(a.f.repo, &a.f.first, 299, &err));
    OK(wa_index_find_again(a.f.repo, &a.f.first, 1, 0, &o, &err));
    assert_true(o.end == 256);
    wa_index_object_done(&o);
    OK(wa_index_find_again(a.f.repo, &a.f.first, 1, 256, &o, &err));
    assert_true(o.end == 288);
    wa_index_object_done(&o);
    for (wa_segno segno = 300; segno < 512; segno++)
        put_one(&a, segno);
    OK(wa_index_update(a.f.repo, &a.f.first, 511, &err));
    OK(wa_index_find_again(a.f.repo, &a.f.first, 1, 256, &o, &err));
    assert_true(o.end == 512);
    wa_index_object_done(&o);
    uint64_t lists = wa_store_requests(a.f.store, "list");
    OK(wa_index_find_again(a.f.repo, &a.f.first, 1, 256, &o, &err));
    assert_true(o.end == 512 && wa_store_requests(a.f.store, "list") == lists);
    wa_index_object_done(&o);
    fixture_done(&a.f);
}

typedef struct hit {
    wa_time t;
    wa_segno segno;
    unsigned count;
} hit;

static wa_visit
choose_time(void *arg, wa_segno first, uint64_t count, const wa_wal_summary *sum, bool whole)
{
    const hit *h = arg;
    (void)first;
    (void)count;
    (void)whole;
    return sum->overflow || (sum->min_time <= h->t && h->t <= sum->max_time) ? WA_VISIT_ENTER
                                                                             : WA_VISIT_PASS;
}

static wa_status
note_segment(void *arg, wa_segno segno, const wa_wal_summary *sum, wa_error *err)
{
    hit *h = arg;
    (void)sum;
    (void)err;
    h->segno = segno;
    h->count++;
    return WA_OK;
}

/* The object of this level that is about the segment is damaged or removed; its segments are there.
 */
static void
lose_object(fixture *f, int level, wa_segno segno, bool damage)
{
    char *key = wa_index_key(f->repo, &f->first, level, segno - segno % wa_index_span(level), 1);
    if (damage)
        put_raw(f, key, "damaged", 7);
    else
        drop(f, key);
    free(key);
    for (wa_segno s = segno / 16 * 16; level == 0 && s < segno / 16 * 16 + 16; s++) {
        wa_error err = WA_ERROR_INIT;
        static char zero[SEGMENT];
        wa_wal_facts facts = facts_at((wa_time)s * 1000, 2);
        wa_put_outcome outcome;
        OK(wa_wal_put(f->repo, &f->first, s, zero, NULL, 1, &facts, true, &outcome, &err));
    }
}

static void
an_object_that_is_lost_costs_few_requests_at_any_level(void **state)
{
    (void)state;
    const wa_segno count = 1000007;
    wa_error err = WA_ERROR_INIT;
    wa_segno targets[8]; /* each in another object of level 3 */
    fixture f;
    fixture_new(&f);
    for (size_t i = 0; i < WA_ARRAY_SIZE(targets); i++)
        targets[i] = (i + 1) * 100000 + 77;
    generate_all(&f, count, targets, WA_ARRAY_SIZE(targets));
    for (size_t i = 0; i < WA_ARRAY_SIZE(targets); i++)
        lose_object(&f, (int)i / 2, targets[i], i % 2 == 0);
    wa_lineage *l = NULL;
    wa_coverage c;
    OK(wa_lineage_load(f.repo, &l, &err));
    OK(wa_coverage_load(f.repo, l, 0, &c, &err));
    assert_int_equal(c.count, 1);
    for (size_t i = 0; i < WA_ARRAY_SIZE(targets); i++) {
        wa_time t = (wa_time)targets[i] * 1000 + 9;
        hit h = {.t = t};
        wa_index_visitor visitor = {.arg = &h, .choose = choose_time, .segment = note_segment};
        wa_segno found = 0;
        uint64_t before = requests(&f);
        visitor.backwards = i % 4 == 0;
        OK(wa_index_visit(f.repo, &c, &f.first, 0, count - 1, &visitor, &err));
        uint64_t for_visit = requests(&f) - before;
        assert_true(h.count == 1 && h.segno == targets[i]);
        OK(wa_index_find_time(f.repo, &f.first, 0, count - 1, t, false, &found, &err));
        assert_true(found == targets[i]);
        uint64_t for_time = requests(&f) - before - for_visit;
        print_message("level %zu: a visit %llu requests, a time %llu\n", i / 2,
                      (unsigned long long)for_visit, (unsigned long long)for_time);
        assert_true(for_visit < 60 && for_time < 60);
    }
    wa_coverage_done(&c);
    wa_lineage_free(l);
    fixture_done(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_the_same_with_and_without_the_index),
        cmocka_unit_test(an_update_again_writes_nothing),
        cmocka_unit_test(updates_step_by_step_reach_the_same_as_one),
        cmocka_unit_test(facts_that_the_writer_knows_are_not_read_back),
        cmocka_unit_test(what_an_update_takes_does_not_grow_with_what_is_there),
        cmocka_unit_test(holes_that_are_filled_and_segments_that_expire_are_seen_at_once),
        cmocka_unit_test(damaged_and_missing_objects_change_no_answer_and_are_rebuilt),
        cmocka_unit_test(an_update_survives_every_failure_and_can_be_repeated),
        cmocka_unit_test(sums_of_xids_are_right_across_the_wrap),
        cmocka_unit_test(sums_of_earlier_versions_are_not_believed_about_xids),
        cmocka_unit_test(a_million_segments_are_answered_with_few_requests),
        cmocka_unit_test(a_block_that_grew_since_it_was_listed_is_listed_again),
        cmocka_unit_test(an_object_that_is_lost_costs_few_requests_at_any_level),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
