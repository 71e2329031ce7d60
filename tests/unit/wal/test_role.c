/*
 * Tests of who writes: a seal that comes while an agent takes over.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "streamer_fixture.h"
#include "walagent/store/drivers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct fixture {
    char dir[64];
    wa_repo *repo;
    wa_streamer *s;
    wa_branch branch;
    wa_error err;
} fixture;

static int
setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    begin_streamer(f->dir, wa_store_mem_new(), false, &f->repo, &f->s);
    f->branch = wa_branch_of(SYSTEM, 1, NULL, 0, NULL, 0);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    fixture *f = *state;
    end_streamer(f->dir, f->repo, f->s);
    free(f);
    return 0;
}

/* Our epoch is the second; the first has a chunk of 100 bytes, and is sealed there or isn't. */
static void
follow_first_epoch(fixture *f, bool sealed)
{
    follow_first_epoch_in(f->repo, f->s, &f->branch);
    if (sealed)
        OK(f, wa_tail_put_seal(f->repo, &f->branch, 1, SEGMENT + FIRST_EPOCH_BYTES, &f->err));
}

static bool
is_sealed(fixture *f, uint32_t epoch)
{
    bool sealed = false;
    OK(f, wa_tip_is_sealed(f->repo, &f->branch, epoch, &sealed, &f->err));
    return sealed;
}

static void
a_seal_that_comes_while_another_takes_over_fences_it_too(void **state)
{
    fixture *f = *state;
    follow_first_epoch(f, true);
    assert_int_equal(wa_role_reopen(f->s, &f->err), WA_CONFLICT);
    assert_true(wa_streamer_is_fenced(f->s));
    assert_true(is_sealed(f, 2));
    wa_error_clear(&f->err);
}

static void
who_takes_over_from_an_epoch_that_nobody_sealed_seals_it_and_writes(void **state)
{
    fixture *f = *state;
    follow_first_epoch(f, false);
    OK(f, wa_role_reopen(f->s, &f->err));
    assert_false(wa_streamer_is_fenced(f->s));
    assert_true(is_sealed(f, 1) && !is_sealed(f, 2));
    assert_int_equal(f->s->taking_over, 0);
}

static void
a_run_that_began_behind_the_seal_may_pass_it(void **state)
{
    fixture *f = *state;
    follow_first_epoch(f, true);
    f->s->may_pass = 1;
    OK(f, wa_role_reopen(f->s, &f->err));
    assert_false(wa_streamer_is_fenced(f->s) || is_sealed(f, 2));
}

/* The writer, "other", is another installation; this one is "me". */
static void
store_lineage(fixture *f)
{
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = wa_lineage_new();
    wa_lineage_append(l, &f->branch, 0);
    l->epoch = 1;
    snprintf(l->writer, sizeof l->writer, "other");
    snprintf(f->s->identity, sizeof f->s->identity, "me");
    OK(f, wa_lineage_store(f->repo, l, &f->err));
}

static void
only_a_seal_from_before_the_run_is_one_that_it_may_pass(void **state)
{
    fixture *f = *state;
    wa_role role;
    bool fresh;
    store_lineage(f);
    OK(f, wa_role_load(f->s, &role, &fresh, &f->err));
    OK(f, wa_tail_put_seal(f->repo, &f->branch, 1, SEGMENT, &f->err));
    OK(f, wa_role_load(f->s, &role, &fresh, &f->err));
    assert_true(role == WA_ROLE_WAITING && f->s->may_pass == 0);
    f->s->began = false; /* another run */
    OK(f, wa_role_load(f->s, &role, &fresh, &f->err));
    assert_int_equal(f->s->may_pass, 1);
}

/* Nor is one that is held, whoever looks. */
static void
a_seal_that_is_held_is_passed_by_no_run(void **state)
{
    fixture *f = *state;
    wa_role role;
    bool fresh;
    wa_lsn at = 0;
    char bytes[100] = "x";
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    store_lineage(f);
    OK(f, wa_tail_put(f->repo, &f->branch, 1, SEGMENT, SEGMENT, bytes, sizeof bytes, NULL, true,
                      &f->err));
    OK(f, wa_tip_fence(f->repo, true, &l, &at, &f->err));
    assert_true(at == SEGMENT + sizeof bytes && wa_lineage_is_held(l));
    OK(f, wa_role_load(f->s, &role, &fresh, &f->err)); /* a run that began behind it */
    assert_true(role == WA_ROLE_WAITING && f->s->may_pass == 0);
}

static void
the_writer_of_a_held_epoch_goes_on_when_it_is_unsealed(void **state)
{
    fixture *f = *state;
    wa_role role;
    bool fresh, unsealed = true;
    wa_lsn at = 0;
    char bytes[100] = "x";
    WA_CLEANUP(wa_lineage_freep) wa_lineage *held = NULL;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *open = NULL;
    store_lineage(f);
    snprintf(f->s->identity, sizeof f->s->identity, "other"); /* started again */
    OK(f, wa_tail_put(f->repo, &f->branch, 1, SEGMENT, SEGMENT, bytes, sizeof bytes, NULL, true,
                      &f->err));
    OK(f, wa_tip_fence(f->repo, true, &held, &at, &f->err));
    OK(f, wa_role_load(f->s, &role, &fresh, &f->err));
    assert_true(role == WA_ROLE_WRITER && wa_lineage_is_held(f->s->lineage));
    assert_int_equal(wa_role_held(f->s, &f->err), WA_UNAVAILABLE);
    assert_non_null(strstr(f->err.hint, "lineage unseal"));
    assert_true(wa_streamer_is_fenced(f->s));
    wa_error_clear(&f->err);
    OK(f, wa_role_was_unsealed(f->s, &unsealed, &f->err));
    assert_false(unsealed);
    OK(f, wa_tip_unseal(f->repo, &open, &f->err));
    assert_true(open->epoch == 2 && !wa_lineage_is_held(open));
    OK(f, wa_role_load(f->s, &role, &fresh, &f->err));
    OK(f, wa_role_was_unsealed(f->s, &unsealed, &f->err));
    assert_true(role == WA_ROLE_WRITER && unsealed);
    OK(f, wa_role_reopen(f->s, &f->err));
    assert_int_equal(f->s->lineage->epoch, 2);
    assert_true(is_sealed(f, 1) && !is_sealed(f, 2));
}

/* We wrote in epoch 1, another in 2; we take over from 2 while it is sealed, and the store goes
 * away before ours, 3, is sealed as well. */
static void
who_gives_way_without_its_seal_is_not_taken_for_unsealed(void **state)
{
    (void)state;
    fixture f = {.err = WA_ERROR_INIT};
    bool unsealed = true;
    wa_store *store = wa_store_fault_new(wa_store_mem_new());
    begin_streamer(f.dir, store, false, &f.repo, &f.s);
    f.branch = wa_branch_of(SYSTEM, 1, NULL, 0, NULL, 0);
    follow_first_epoch(&f, true); /* epoch 1 is sealed, 2 ours */
    f.s->lineage->epoch = 3;
    f.s->taking_over = 2;
    f.s->flow.epoch = 1;
    OK(&f, wa_tail_put_seal(f.repo, &f.branch, 2, SEGMENT + 100, &f.err));
    wa_store_fault_set(store, "put", 1, 1000, WA_FAULT_FAIL);
    assert_int_not_equal(wa_role_reopen(f.s, &f.err), WA_OK);
    wa_error_clear(&f.err);
    assert_true(wa_streamer_is_fenced(f.s) && f.s->taking_over == 2);
    wa_store_fault_set(store, "put", 0, 0, WA_FAULT_FAIL);
    OK(&f, wa_role_was_unsealed(f.s, &unsealed, &f.err));
    assert_false(unsealed || is_sealed(&f, 3));
    assert_int_equal(wa_role_reopen(f.s, &f.err), WA_CONFLICT); /* now it is sealed */
    assert_true(is_sealed(&f, 3) && f.s->taking_over == 0);
    wa_error_clear(&f.err);
    OK(&f, wa_role_was_unsealed(f.s, &unsealed, &f.err));
    assert_false(unsealed);
    end_streamer(f.dir, f.repo, f.s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_seal_that_comes_while_another_takes_over_fences_it_too,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            who_takes_over_from_an_epoch_that_nobody_sealed_seals_it_and_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_run_that_began_behind_the_seal_may_pass_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_seal_that_is_held_is_passed_by_no_run, setup, teardown),
        cmocka_unit_test(who_gives_way_without_its_seal_is_not_taken_for_unsealed),
        cmocka_unit_test_setup_teardown(the_writer_of_a_held_epoch_goes_on_when_it_is_unsealed,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(only_a_seal_from_before_the_run_is_one_that_it_may_pass,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
