/*
 * Tests of the tip of a branch and its seal: over segment ends, behind whole segments, never too
 * low.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "repo_fixture.h"

#include "walagent/repo/tip.h"

#define FIRST (3ull * SEGMENT)

static void
put_chunk(fixture *f, uint32_t epoch, wa_lsn start, wa_lsn end)
{
    wa_error err = WA_ERROR_INIT;
    char *bytes = pattern((uint32_t)start, (size_t)(end - start));
    OK(wa_tail_put(f->repo, &f->first, epoch, start, start, bytes, (size_t)(end - start), NULL,
                   true, &err));
    free(bytes);
}

static wa_lineage *
lineage_of(fixture *f)
{
    wa_lineage *l = wa_lineage_new();
    wa_lineage_append(l, &f->first, 0);
    l->epoch = 1;
    return l;
}

static wa_lsn
tip_of(fixture *f)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = lineage_of(f);
    wa_lsn tip = 1;
    OK(wa_tip_find(f->repo, l, &tip, &err));
    return tip;
}

static wa_lsn
seal_from(fixture *f, wa_lsn from)
{
    wa_error err = WA_ERROR_INIT;
    wa_lsn at = 0;
    bool sealed = false;
    OK(wa_tip_seal(f->repo, &f->first, 1, from, &at, &err));
    OK(wa_tip_is_sealed(f->repo, &f->first, 1, &sealed, &err));
    assert_true(sealed);
    return at;
}

static void
a_seal_behind_a_full_chain_is_not_told_a_segment_too_low(void **state)
{
    (void)state;
    fixture f;
    fixture_new(&f);
    assert_true(tip_of(&f) == 0);
    put_chunk(&f, 1, FIRST, FIRST + 100);
    put_chunk(&f, 1, FIRST + 100, FIRST + SEGMENT);
    assert_true(tip_of(&f) == FIRST + SEGMENT);
    assert_true(seal_from(&f, tip_of(&f)) == FIRST + SEGMENT);
    /* Once more: the newest directory has nothing but the seal. */
    assert_true(tip_of(&f) == FIRST + SEGMENT);
    assert_true(seal_from(&f, tip_of(&f)) == FIRST + SEGMENT);
    fixture_done(&f);
}

static void
bytes_under_the_seals_name_are_no_seal(void **state)
{
    (void)state;
    fixture f;
    fixture_new(&f);
    put_chunk(&f, 1, FIRST, FIRST + 100);
    put_chunk(&f, 1, FIRST + 100, FIRST + SEGMENT);
    put_chunk(&f, 1, FIRST + SEGMENT, FIRST + SEGMENT + 70);
    /* It was thought of at each of these, and the writer went on. */
    assert_true(seal_from(&f, FIRST) == FIRST + SEGMENT + 70);
    assert_true(seal_from(&f, FIRST + 100) == FIRST + SEGMENT + 70);
    assert_true(seal_from(&f, FIRST + SEGMENT) == FIRST + SEGMENT + 70);
    fixture_done(&f);
}

static void
a_chain_without_its_first_chunk_is_not_sealed(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = lineage_of(&f);
    wa_lsn tip = 0, at = 0;
    put_chunk(&f, 1, FIRST + 100, FIRST + 200);
    FAILS(wa_tip_find(f.repo, l, &tip, &err), WA_CORRUPT);
    wa_error_clear(&err);
    FAILS(wa_tip_seal(f.repo, &f.first, 1, FIRST + 100, &at, &err), WA_CORRUPT);
    assert_true(tip == 0 && at == 0);
    fixture_done(&f);
}

static void
bytes_outside_of_the_chain_are_told_as_a_conflict(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_lsn at = 0;
    put_chunk(&f, 1, FIRST, FIRST + 100);
    put_chunk(&f, 1, FIRST + 300, FIRST + 400);
    FAILS(wa_tip_seal(f.repo, &f.first, 1, FIRST + 300, &at, &err), WA_CONFLICT);
    assert_true(at == 0);
    fixture_done(&f);
}

/* archive_command goes on when the agent is fenced. */
static void
a_seal_is_one_still_when_whole_segments_come_behind_it(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    char *whole = pattern(1, SEGMENT);
    wa_put_outcome outcome;
    bool sealed = true;
    put_chunk(&f, 1, FIRST, FIRST + 100);
    OK(wa_tip_is_sealed(f.repo, &f.first, 1, &sealed, &err));
    assert_false(sealed);
    assert_true(seal_from(&f, FIRST + 100) == FIRST + 100);
    OK(wa_wal_put(f.repo, &f.first, 3, whole, NULL, 1, NULL, true, &outcome, &err));
    assert_true(tip_of(&f) == FIRST + SEGMENT);
    OK(wa_tip_is_sealed(f.repo, &f.first, 1, &sealed, &err));
    assert_true(sealed);
    put_chunk(&f, 2, FIRST + SEGMENT, FIRST + SEGMENT + 10);
    OK(wa_tip_is_sealed(f.repo, &f.first, 2, &sealed, &err));
    assert_false(sealed);
    free(whole);
    fixture_done(&f);
}

static void
store_epoch(fixture *f, uint32_t epoch, const char *writer)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    OK(wa_lineage_load(f->repo, &l, &err));
    l->epoch = epoch;
    l->since = epoch;
    snprintf(l->writer, sizeof l->writer, "%s", writer);
    OK(wa_lineage_store(f->repo, l, &err));
}

static void
take_over_meanwhile(void *arg)
{
    fixture *f = arg;
    store_epoch(f, 2, "second");
    put_chunk(f, 2, FIRST + 100, FIRST + 300);
}

static void
the_epoch_that_was_opened_while_the_seal_was_put_is_sealed_too(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    wa_lsn at = 0;
    bool sealed = false;
    store_epoch(&f, 1, "first");
    put_chunk(&f, 1, FIRST, FIRST + 100);
    wa_store_fault_before(f.store, "put", 1, take_over_meanwhile, &f);
    OK(wa_tip_fence(f.repo, false, &l, &at, &err));
    assert_int_equal(l->epoch, 2);
    assert_true(at == FIRST + 300);
    OK(wa_tip_is_sealed(f.repo, &f.first, 2, &sealed, &err));
    assert_true(sealed);
    fixture_done(&f);
}

static void
a_hold_is_of_one_epoch_and_of_a_plain_seal_too(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_lineage *l[5] = {NULL};
    wa_lsn plain = 0, at = 0;
    store_epoch(&f, 1, "first");
    FAILS(wa_tip_unseal(f.repo, &l[0], &err), WA_NOT_FOUND);
    wa_error_clear(&err);
    put_chunk(&f, 1, FIRST, FIRST + 100);
    OK(wa_tip_fence(f.repo, false, &l[0], &plain, &err));
    assert_false(wa_lineage_is_held(l[0]));
    OK(wa_tip_fence(f.repo, true, &l[1], &at, &err)); /* what was sealed is held from now on */
    assert_true(at == plain && wa_lineage_is_held(l[1]) && l[1]->epoch == 1);
    OK(wa_tip_fence(f.repo, true, &l[2], &at, &err)); /* once more changes nothing */
    assert_true(at == plain && l[2]->number == l[1]->number);
    OK(wa_tip_unseal(f.repo, &l[3], &err));
    assert_true(l[3]->epoch == 2 && !wa_lineage_is_held(l[3]));
    assert_string_equal(l[3]->writer, "first");
    put_chunk(&f, 2, FIRST + 100, FIRST + 200);
    OK(wa_lineage_load(f.repo, &l[4], &err));
    assert_false(wa_lineage_is_held(l[4]));
    assert_true(tip_of(&f) == FIRST + 200);
    for (size_t i = 0; i < 5; i++)
        wa_lineage_free(l[i]);
    fixture_done(&f);
}

static void
who_takes_over_while_it_is_held_is_held_too(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    wa_lsn at = 0;
    store_epoch(&f, 1, "first");
    put_chunk(&f, 1, FIRST, FIRST + 100);
    /* The first put is that of the lineage that holds, the second the seal's. */
    wa_store_fault_before(f.store, "put", 2, take_over_meanwhile, &f);
    OK(wa_tip_fence(f.repo, true, &l, &at, &err));
    assert_true(l->epoch == 2 && wa_lineage_is_held(l));
    assert_true(at == FIRST + 300);
    fixture_done(&f);
}

/* Its lineage is there, its seal isn't: the store went away in between. */
static void
hold_without_seal(fixture *f)
{
    wa_error err = WA_ERROR_INIT;
    wa_lineage *l = NULL;
    wa_lsn at = 0;
    bool sealed = true;
    wa_store_fault_set(f->store, "put", 2, 1000, WA_FAULT_FAIL);
    assert_int_not_equal(wa_tip_fence(f->repo, true, &l, &at, &err), WA_OK);
    assert_non_null(strstr(err.message, "is held, but not known to be sealed"));
    assert_true(l == NULL && at == 0);
    wa_store_fault_set(f->store, "put", 0, 0, WA_FAULT_FAIL);
    wa_error_clear(&err);
    OK(wa_lineage_load(f->repo, &l, &err));
    assert_true(wa_lineage_is_held(l));
    wa_lineage_free(l);
    OK(wa_tip_is_sealed(f->repo, &f->first, 1, &sealed, &err));
    assert_false(sealed);
}

static void
unseal_ends_the_epoch_of_a_hold_whose_seal_never_came(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    bool sealed = false;
    store_epoch(&f, 1, "first");
    put_chunk(&f, 1, FIRST, FIRST + 100);
    hold_without_seal(&f);
    OK(wa_tip_unseal(f.repo, &l, &err));
    assert_true(l->epoch == 2 && !wa_lineage_is_held(l));
    OK(wa_tip_is_sealed(f.repo, &f.first, 1, &sealed, &err));
    assert_true(sealed);
    /* The writer that still runs in epoch 1 meets the seal. */
    char *bytes = pattern(1, 200);
    FAILS(wa_tail_put(f.repo, &f.first, 1, FIRST + 100, FIRST + 100, bytes, 200, NULL, true, &err),
          WA_EXISTS);
    free(bytes);
    fixture_done(&f);
}

/* The whole segment arrived long ago and its chunks go now, while the newest one is looked at. */
static void
whole_replaces_chunks(void *arg)
{
    char *bytes = pattern(3, SEGMENT);
    replace_chunks_by_whole(arg, 3, bytes);
    free(bytes);
}

static void
chunks_that_go_while_the_tip_is_looked_for_make_it_no_lower(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    bool sealed = true;
    fixture_new(&f);
    put_chunk(&f, 1, FIRST, FIRST + 100);
    wa_store_fault_before(f.store, "head", 1, whole_replaces_chunks, &f);
    assert_true(tip_of(&f) == FIRST + SEGMENT + 50);
    fixture_done(&f);

    fixture_new(&f);
    put_chunk(&f, 1, FIRST, FIRST + 100);
    wa_store_fault_before(f.store, "head", 1, whole_replaces_chunks, &f);
    OK(wa_tip_is_sealed(f.repo, &f.first, 1, &sealed, &err));
    assert_false(sealed);
    fixture_done(&f);
}

static void
where_no_agent_writes_nobody_is_fenced(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    wa_lsn at = 0;
    put_chunk(&f, 1, FIRST, FIRST + 100);
    FAILS(wa_tip_fence(f.repo, false, &l, &at, &err), WA_NOT_FOUND); /* no lineage */
    store_epoch(&f, 1, "");
    wa_error_clear(&err);
    FAILS(wa_tip_fence(f.repo, false, &l, &at, &err), WA_NOT_FOUND); /* adopted by hand */
    assert_true(err.hint[0] != '\0' && l == NULL && at == 0);
    wa_error_clear(&err);
    store_epoch(&f, 1, "first");
    OK(wa_tip_fence(f.repo, false, &l, &at, &err));
    assert_true(at == FIRST + 100);
    fixture_done(&f);
}

static void
an_empty_archive_has_nobody_to_fence(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    wa_lsn at = 0;
    store_epoch(&f, 1, "first");
    FAILS(wa_tip_fence(f.repo, false, &l, &at, &err), WA_NOT_FOUND);
    assert_true(err.hint[0] != '\0' && l == NULL && at == 0);
    wa_error_clear(&err);
    FAILS(wa_tip_fence(f.repo, true, &l, &at, &err), WA_NOT_FOUND);
    assert_true(l == NULL && at == 0);
    wa_error_clear(&err);
    OK(wa_lineage_load(f.repo, &l, &err)); /* nor is it held, where nobody was fenced */
    assert_false(wa_lineage_is_held(l));
    fixture_done(&f);
}

/* Chunks go when their whole segment has come, also while it is seen to that they stay. */
static void
a_tip_is_settled_in_chunks_or_in_the_segment_that_replaced_them(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    put_chunk(&f, 1, FIRST, FIRST + 100);
    wa_store_fault_set(f.store, "settle", 1, 1, WA_FAULT_GONE);
    OK(wa_tip_settle(f.repo, &f.first, FIRST + 100, &err));
    assert_int_equal(wa_store_fault_hits(f.store), 2);
    wa_store_fault_set(f.store, "settle", 1, 1000, WA_FAULT_GONE); /* faster each time */
    FAILS(wa_tip_settle(f.repo, &f.first, FIRST + 100, &err), WA_UNAVAILABLE);
    wa_error_clear(&err);
    no_faults(&f);
    wa_store_fault_set(f.store, "settle", 1, 1000, WA_FAULT_GONE); /* nothing is there */
    OK(wa_tip_settle(f.repo, &f.first, FIRST, &err));
    OK(wa_tip_settle(f.repo, &f.first, 0, &err));
    fixture_done(&f);
}

static void
put_whole_segment(void *arg)
{
    fixture *f = arg;
    put_segment(f, &f->first, FIRST / SEGMENT, 1);
    wa_store_fault_set(f->store, "settle", 1, 0, WA_FAULT_FAIL);
}

static void
a_segment_that_comes_between_two_looks_is_settled_too(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    wa_store_fault_set(f.store, "settle", 1, 0, WA_FAULT_GONE); /* not there yet */
    wa_store_fault_before(f.store, "list", 1, put_whole_segment, &f);
    FAILS(wa_tip_settle(f.repo, &f.first, FIRST + 100, &err), WA_UNAVAILABLE); /* it was tried */
    wa_error_clear(&err);
    OK(wa_tip_settle(f.repo, &f.first, FIRST + 100, &err));
    fixture_done(&f);
}

/* Servers are promoted on the word that the archive reaches that far. */
static void
a_seal_is_told_when_what_it_ends_lasts(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    wa_lsn at = 0;
    fixture_new(&f);
    put_chunk(&f, 1, FIRST, FIRST + 100);
    wa_store_fault_set(f.store, "settle", 1, 0, WA_FAULT_FAIL);
    FAILS(wa_tip_seal(f.repo, &f.first, 1, FIRST + 100, &at, &err), WA_UNAVAILABLE);
    assert_true(seal_from(&f, FIRST + 100) == FIRST + 100); /* the same seal is found */
    fixture_done(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seal_behind_a_full_chain_is_not_told_a_segment_too_low),
        cmocka_unit_test(bytes_under_the_seals_name_are_no_seal),
        cmocka_unit_test(a_chain_without_its_first_chunk_is_not_sealed),
        cmocka_unit_test(bytes_outside_of_the_chain_are_told_as_a_conflict),
        cmocka_unit_test(a_seal_is_one_still_when_whole_segments_come_behind_it),
        cmocka_unit_test(the_epoch_that_was_opened_while_the_seal_was_put_is_sealed_too),
        cmocka_unit_test(a_hold_is_of_one_epoch_and_of_a_plain_seal_too),
        cmocka_unit_test(who_takes_over_while_it_is_held_is_held_too),
        cmocka_unit_test(unseal_ends_the_epoch_of_a_hold_whose_seal_never_came),
        cmocka_unit_test(chunks_that_go_while_the_tip_is_looked_for_make_it_no_lower),
        cmocka_unit_test(a_tip_is_settled_in_chunks_or_in_the_segment_that_replaced_them),
        cmocka_unit_test(a_segment_that_comes_between_two_looks_is_settled_too),
        cmocka_unit_test(a_seal_is_told_when_what_it_ends_lasts),
        cmocka_unit_test(where_no_agent_writes_nobody_is_fenced),
        cmocka_unit_test(an_empty_archive_has_nobody_to_fence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
