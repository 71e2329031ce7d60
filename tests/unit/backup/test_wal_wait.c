/*
 * test_wal_wait.c - when a backup has its WAL: whole segments and chunks, soon, late and never.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "backup_fixture.h"

#include "walagent/repo/tail.h"

#define SEGMENT (16u * 1024 * 1024)
#define START (SEGMENT + 40u)
#define END (SEGMENT + 8192u)

typedef struct fixture {
    wa_store *store; /* the repository's */
    wa_repo *repo;
    wa_backup_info *info;
    wa_error err;
} fixture;

static int
setup(void **state)
{
    fixture *f = wa_calloc(1, sizeof *f);
    f->store = wa_store_fault_new(wa_store_mem_new());
    OK(make_repo_of(f->store, &f->repo, &f->err));
    f->info = make_info();
    OK(wa_backup_branch(f->repo, 1, &f->info->branch, &f->err));
    f->info->end_branch = f->info->branch;
    f->info->start_lsn = START;
    f->info->end_lsn = END;
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    fixture *f = *state;
    wa_backup_info_free(f->info);
    wa_repo_free(f->repo);
    wa_freep(&f);
    return 0;
}

static void
put_chunk(void *arg)
{
    static const uint8_t zero[END - SEGMENT];
    fixture *f = arg;
    wa_error err = WA_ERROR_INIT;
    if (wa_tail_put(f->repo, &f->info->branch, 1, SEGMENT, SEGMENT, zero, sizeof zero, NULL, true,
                    &err) != WA_OK)
        fail_msg("%s", err.message);
}

static wa_status
wait_for(fixture *f, uint64_t timeout_ms)
{
    wa_backup_options options = {.repo = f->repo, .wal_timeout_ms = timeout_ms};
    return wa_backup_wait_wal(&options, f->info, &f->err);
}

static void
the_first_look_sees_chunks(void **state)
{
    fixture *f = *state;
    put_chunk(f);
    OK(wait_for(f, 60000));
    f->info->end_lsn = END + 1;
    assert_int_equal(wait_for(f, 0), WA_UNAVAILABLE);
}

static void
what_is_missing_when_the_time_is_over_is_named(void **state)
{
    fixture *f = *state;
    assert_int_equal(wait_for(f, 0), WA_UNAVAILABLE);
    assert_non_null(strstr(f->err.message, "from 0/1000028 to 0/1002000"));
}

/* The look before it asks for the whole segment alone. */
static void
the_look_when_the_time_is_over_sees_chunks(void **state)
{
    fixture *f = *state;
    wa_store_fault_before(f->store, "head", 2, put_chunk, f);
    OK(wait_for(f, 15));
}

/* With nothing but quick ones for a while. */
static void
chunks_are_seen_long_before_the_time_is_over(void **state)
{
    fixture *f = *state;
    wa_store_fault_before(f->store, "head", 2, put_chunk, f);
    OK(wait_for(f, UINT64_C(3600) * 1000));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_look_sees_chunks, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_missing_when_the_time_is_over_is_named, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_look_when_the_time_is_over_sees_chunks, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(chunks_are_seen_long_before_the_time_is_over, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
