/*
 * tests/unit/wal/test_role_mirror.c - an agent takes over where the one before was killed between
 * the main repository and its mirror.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "streamer_fixture.h"

#include "walagent/repo/mirrors.h"
#include "walagent/store/drivers.h"
#include "walagent/store/mirror.h"

#include <stdlib.h>
#include <string.h>

typedef struct fixture {
    char dir[64];
    wa_store *far; /* the mirror */
    wa_repo *repo;
    wa_streamer *s;
    wa_branch branch;
    wa_error err;
} fixture;

/* Our epoch is the second. The first one's writer got its chunk into the main repository alone. */
static int
setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    f->far = wa_store_fault_new(wa_store_mem_new());
    wa_store *store = wa_store_mirror_new(wa_store_mem_new(), &(wa_mirror){f->far, "far"}, 1);
    begin_streamer(f->dir, store, false, &f->repo, &f->s);
    f->branch = wa_branch_of(SYSTEM, 1, NULL, 0, NULL, 0);
    WA_CLEANUP(wa_repo_freep) wa_repo *alone = wa_repo_member(f->repo, 0);
    follow_first_epoch_in(alone, f->s, &f->branch);
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

static bool
mirror_is_complete(fixture *f)
{
    wa_mirror_sync result = {0};
    wa_mirror_sync_options options = {.only_compare = true};
    OK(f, wa_mirror_sync_run(f->repo, 1, &options, &result, &f->err));
    return wa_mirror_sync_is_complete(&result);
}

static bool
is_sealed(fixture *f, wa_repo *repo, uint32_t epoch)
{
    bool sealed = false;
    OK(f, wa_tip_is_sealed(repo, &f->branch, epoch, &sealed, &f->err));
    return sealed;
}

static void
who_takes_over_brings_the_mirror_the_chunks_and_the_seal(void **state)
{
    fixture *f = *state;
    assert_false(mirror_is_complete(f));
    OK(f, wa_role_reopen(f->s, &f->err));
    assert_false(wa_streamer_is_fenced(f->s));
    WA_CLEANUP(wa_repo_freep) wa_repo *copy = wa_repo_member(f->repo, 1);
    assert_true(is_sealed(f, copy, 1) && !is_sealed(f, copy, 2));
    assert_true(mirror_is_complete(f));
}

static void
nobody_takes_over_while_the_mirror_is_away(void **state)
{
    fixture *f = *state;
    wa_store_fault_set(f->far, "put", 1, 1000, WA_FAULT_FAIL);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(wa_role_reopen(f->s, &f->err), WA_UNAVAILABLE);
        wa_error_clear(&f->err);
        assert_int_not_equal(f->s->taking_over, 0);
    }
    wa_store_fault_set(f->far, "put", 0, 0, WA_FAULT_FAIL);
    OK(f, wa_role_reopen(f->s, &f->err));
    assert_false(wa_streamer_is_fenced(f->s));
    assert_true(mirror_is_complete(f));
}

/* The seal is in the main repository, and the mirror's answer was lost or never came. */
static void
a_seal_that_the_mirror_took_too_late_is_our_own(void **state)
{
    fixture *f = *state;
    wa_store_fault_set(f->far, "put", 2, 0, WA_FAULT_FAIL); /* the chunk, and then the seal */
    wa_status status = wa_role_reopen(f->s, &f->err);
    assert_int_equal(wa_store_fault_hits(f->far), 1);
    assert_int_equal(status, WA_UNAVAILABLE);
    wa_error_clear(&f->err);
    OK(f, wa_role_reopen(f->s, &f->err));
    assert_false(wa_streamer_is_fenced(f->s));
    assert_true(mirror_is_complete(f));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_takes_over_brings_the_mirror_the_chunks_and_the_seal,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_takes_over_while_the_mirror_is_away, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_seal_that_the_mirror_took_too_late_is_our_own, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
