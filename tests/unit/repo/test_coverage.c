/*
 * Tests of coverage: random layouts against a model that looks at every unit of WAL by itself.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "repo_fixture.h"

#include "walagent/repo/coverage.h"
#include "walagent/repo/index.h"

#define UNIT 65536u
#define PER_SEGMENT (SEGMENT / UNIT)
#define SEGMENTS 80u
#define UNITS (SEGMENTS * PER_SEGMENT)
#define STEPS 4u

/* A whole segment's name is all that coverage looks at. */
static void
mark_whole(fixture *f, const wa_branch *branch, wa_segno segno)
{
    char *key = wa_wal_key(f->repo, branch, segno);
    put_raw(f, key, "x", 1);
    free(key);
}

static void
drop_whole(fixture *f, const wa_branch *branch, wa_segno segno)
{
    char *key = wa_wal_key(f->repo, branch, segno);
    drop(f, key);
    free(key);
}

static void
put_tail(fixture *f, const wa_branch *branch, wa_segno segno, unsigned units)
{
    wa_error err = WA_ERROR_INIT;
    static char zero[SEGMENT];
    wa_lsn first = segno * SEGMENT, half = first + units * UNIT / 2;
    OK(wa_tail_put(f->repo, branch, 1, first, first, zero, half - first, NULL, true, &err));
    OK(wa_tail_put(f->repo, branch, 1, half, half, zero, units * UNIT - (half - first), NULL, true,
                   &err));
}

typedef struct layout {
    wa_lineage *l;
    bool whole[STEPS][SEGMENTS];
    unsigned tail[STEPS][SEGMENTS]; /* units; 0: none */
} layout;

/* Where bytes of a segment on the branch of step i end, in units. */
static unsigned
reach(const layout *w, size_t i, size_t segno)
{
    return w->whole[i][segno] ? PER_SEGMENT : w->tail[i][segno];
}

static bool
expected(const layout *w, size_t i, uint64_t unit)
{
    const wa_lineage *l = w->l;
    uint64_t begin = l->steps[i].begin / UNIT;
    uint64_t end = i + 1 < l->count ? l->steps[i + 1].begin / UNIT : UNITS;
    size_t segno = (size_t)(unit / PER_SEGMENT);
    unsigned within = (unsigned)(unit % PER_SEGMENT);
    if (unit < begin || unit >= end)
        return false;
    if (within < reach(w, i, segno))
        return true;
    for (size_t j = i + 1; j < l->count && l->steps[j].begin < (segno + 1) * SEGMENT; j++)
        if (within < reach(w, j, segno))
            return true;
    return false;
}

static bool
covered(const wa_coverage *c, const wa_branch *branch, uint64_t unit)
{
    for (size_t r = 0; r < c->count; r++) {
        if (wa_branch_eq(&c->runs[r].branch, branch) && c->runs[r].begin <= unit * UNIT &&
            c->runs[r].end >= (unit + 1) * UNIT)
            return true;
    }
    return false;
}

static void
compare(fixture *f, const layout *w, wa_lsn from, uint64_t seed)
{
    wa_error err = WA_ERROR_INIT;
    wa_coverage c;
    OK(wa_coverage_load(f->repo, w->l, from, &c, &err));
    wa_lsn tip = 0, reached = from;
    for (size_t i = 0; i < w->l->count; i++) {
        for (uint64_t unit = from / SEGMENT * PER_SEGMENT; unit < UNITS; unit++) {
            bool want = expected(w, i, unit);
            if (covered(&c, &w->l->steps[i].branch, unit) != want)
                fail_msg("seed %llu: unit %llu of step %zu is %s", (unsigned long long)seed,
                         (unsigned long long)unit, i, want ? "covered" : "not covered");
            if (want && unit * UNIT <= reached && (unit + 1) * UNIT > reached)
                reached = (unit + 1) * UNIT;
            if (want)
                tip = (unit + 1) * UNIT;
        }
    }
    assert_true(wa_coverage_tip(&c) == tip);
    assert_true(wa_coverage_from(&c, from) == reached);
    wa_hole holes[512];
    size_t count = wa_coverage_holes(&c, holes, WA_ARRAY_SIZE(holes));
    assert_true(count < WA_ARRAY_SIZE(holes));
    for (size_t h = 0; h < count; h++)
        for (wa_lsn lsn = holes[h].begin; lsn < holes[h].end; lsn += UNIT)
            for (size_t i = 0; i < w->l->count; i++)
                assert_false(expected(w, i, lsn / UNIT));
    wa_coverage_done(&c);
}

static void
make_layout(fixture *f, layout *w, uint64_t *seed)
{
    memset(w, 0, sizeof *w);
    w->l = wa_lineage_new();
    wa_lsn begin = 0;
    size_t steps = 1 + next_random(seed) % STEPS;
    unsigned density = 50 + (unsigned)(next_random(seed) % 51);
    for (size_t i = 0; i < steps; i++) {
        wa_branch branch = f->first;
        branch.tli = (wa_tli)i + 1;
        wa_lineage_append(w->l, &branch, begin);
        begin += next_random(seed) % (i % 2 == 0 ? UNITS / STEPS : PER_SEGMENT) * UNIT;
        for (size_t s = 1; s < SEGMENTS; s++) {
            bool tail = next_random(seed) % 25 == 0;
            w->whole[i][s] = next_random(seed) % 100 < density;
            if (w->whole[i][s])
                mark_whole(f, &branch, s);
            if (tail) {
                w->tail[i][s] = 1 + (unsigned)(next_random(seed) % PER_SEGMENT);
                put_tail(f, &branch, s, w->tail[i][s]);
            }
        }
    }
}

static void
random_layouts_agree_with_a_model(void **state)
{
    (void)state;
    for (uint64_t round = 1; round <= 30; round++) {
        uint64_t start = 7919 * round, seed = start;
        fixture f;
        fixture_new(&f);
        layout w;
        make_layout(&f, &w, &seed);
        compare(&f, &w, 0, start);
        compare(&f, &w, next_random(&seed) % (UNITS * UNIT), start);
        wa_lineage_free(w.l);
        fixture_done(&f);
    }
}

/* The index is written, then holes are filled behind its back, and the oldest segments expire. */
static void
an_index_never_changes_the_answer(void **state)
{
    (void)state;
    for (uint64_t round = 1; round <= 15; round++) {
        uint64_t start = 104729 * round, seed = start;
        wa_error err = WA_ERROR_INIT;
        fixture f;
        fixture_new(&f);
        layout w;
        make_layout(&f, &w, &seed);
        for (size_t i = 0; i < w.l->count; i++)
            OK(wa_index_update(f.repo, &w.l->steps[i].branch, next_random(&seed) % SEGMENTS, &err));
        compare(&f, &w, 0, start);
        for (size_t i = 0; i < w.l->count; i++) {
            const wa_branch *branch = &w.l->steps[i].branch;
            for (size_t s = 1; s < SEGMENTS; s++) {
                if (!w.whole[i][s] && next_random(&seed) % 4 == 0) {
                    mark_whole(&f, branch, s);
                    w.whole[i][s] = true;
                }
            }
            for (size_t s = 1; s < next_random(&seed) % 20; s++) {
                if (w.whole[i][s])
                    drop_whole(&f, branch, s);
                w.whole[i][s] = false;
            }
        }
        compare(&f, &w, 0, start);
        for (size_t i = 0; i < w.l->count; i++)
            OK(wa_index_update(f.repo, &w.l->steps[i].branch, SEGMENTS - 1, &err));
        compare(&f, &w, 0, start);
        wa_lineage_free(w.l);
        fixture_done(&f);
    }
}

static void
an_empty_archive_covers_nothing(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_lineage *l = NULL;
    wa_coverage c;
    OK(wa_lineage_load(f.repo, &l, &err));
    OK(wa_coverage_load(f.repo, l, 0, &c, &err));
    assert_int_equal(c.count, 0);
    assert_true(wa_coverage_tip(&c) == 0);
    assert_true(wa_coverage_from(&c, 12345) == 12345);
    assert_true(c.tip_time == WA_TIME_NONE);
    wa_coverage_done(&c);
    wa_lineage_free(l);
    fixture_done(&f);
}

/* A failed look-up must not look like a hole. */
static void
no_failure_of_the_store_looks_like_a_hole(void **state)
{
    (void)state;
    static const wa_fault faults[] = {WA_FAULT_FAIL, WA_FAULT_TEAR, WA_FAULT_TRUNCATE_LIST,
                                      WA_FAULT_DENY, WA_FAULT_FLIP};
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    for (wa_segno s = 1; s < 70; s++)
        if (s != 20)
            mark_whole(&f, &f.first, s);
    put_tail(&f, &f.first, 70, 7);
    OK(wa_index_update(f.repo, &f.first, 63, &err));
    wa_lineage *l = NULL;
    OK(wa_lineage_load(f.repo, &l, &err));
    for (size_t kind = 0; kind < WA_ARRAY_SIZE(faults); kind++) {
        for (unsigned nth = 1;; nth++) {
            assert_true(nth < 100);
            wa_coverage c;
            unsigned before = wa_store_fault_hits(f.store);
            wa_store_fault_set(f.store, "any", nth, 0, faults[kind]);
            wa_status status = wa_coverage_load(f.repo, l, 0, &c, &err);
            if (status == WA_OK) {
                wa_hole hole;
                assert_int_equal(wa_coverage_holes(&c, &hole, 1), 1);
                assert_true(hole.begin == 20ull * SEGMENT && hole.end == 21ull * SEGMENT);
                assert_true(wa_coverage_tip(&c) == 70ull * SEGMENT + 7 * UNIT);
                wa_coverage_done(&c);
            }
            if (wa_store_fault_hits(f.store) == before)
                break;
        }
    }
    wa_lineage_free(l);
    fixture_done(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_layouts_agree_with_a_model),
        cmocka_unit_test(an_index_never_changes_the_answer),
        cmocka_unit_test(an_empty_archive_covers_nothing),
        cmocka_unit_test(no_failure_of_the_store_looks_like_a_hole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
