/*
 * test_get_mirror.c - archive-get of a segment that the main repository lacks and a mirror has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hook_fixture.h"

#include "walagent/store/mirror.h"

#define NAME "000000010000000000000003"

typedef struct mirrored {
    wa_repo *repo;
    wa_store *store;
    wa_branch branch;
    char dir[64];
} mirrored;

static int
set_up(void **state)
{
    wa_error err = WA_ERROR_INIT;
    mirrored *m = wa_calloc(1, sizeof *m);
    wa_cluster identity = {.system_identifier = SYSTEM, .major = 15, .segment_size = SEGMENT};
    bool created = false;
    wa_put_outcome outcome;
    wa_mirror far = {wa_store_mem_new(), "far"};
    m->store = wa_store_mirror_new(wa_store_mem_new(), &far, 1);
    OK(wa_repo_of_store(m->store, "main", 1, &m->repo, &err));
    wa_repo_only_read(m->repo, false);
    OK(wa_repo_init(m->repo, &identity, false, &created, &err));
    OK(wa_repo_load(m->repo, &err));
    m->branch = wa_branch_of(SYSTEM, 1, NULL, 0, NULL, 0);
    snprintf(m->dir, sizeof m->dir, "/tmp/wa-get-XXXXXX");
    assert_non_null(mkdtemp(m->dir));
    wal_builder *wal = wal_builder_new(NULL);
    for (wa_segno s = 1; s <= 4; s++)
        wal_fill_segment(wal);
    for (wa_segno s = 1; s <= 4; s++)
        OK(wa_wal_put(m->repo, &m->branch, s, wal_bytes(wal) + (s - 1) * SEGMENT, NULL, 1, NULL,
                      true, &outcome, &err));
    wal_builder_free(wal);
    *state = m;
    return 0;
}

static int
tear_down(void **state)
{
    wa_error err = WA_ERROR_INIT;
    mirrored *m = *state;
    OK(wa_remove_tree(m->dir, &err));
    wa_repo_free(m->repo);
    free(m);
    return 0;
}

static void
lose(mirrored *m, size_t member)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(m->repo, &m->branch, 3);
    wa_strv_add(&keys, key);
    OK(wa_store_delete(wa_store_member(m->store, member), &keys, &err));
}

static wa_status
get(mirrored *m, wa_get_mode mode, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *target = wa_format("%s/out", m->dir);
    wa_get_result result;
    wa_get_options options = {.repo = m->repo, .data_dir = m->dir};
    return wa_get_file(&options, mode, NAME, target, &result, err);
}

static void
a_person_is_told_which_repository_has_it(void **state)
{
    mirrored *m = *state;
    wa_error err = WA_ERROR_INIT;
    OK(get(m, WA_GET_RAW, &err));
    lose(m, 0);
    FAILS(get(m, WA_GET_RAW, &err), WA_NOT_FOUND);
    assert_non_null(strstr(err.hint, "Repository \"far\" has it: \"--repository far\""));
    lose(m, 1);
    wa_error_clear(&err);
    FAILS(get(m, WA_GET_RAW, &err), WA_NOT_FOUND);
    assert_string_equal(err.hint, "");
}

/* It asks for what isn't there yet all the time. */
static void
a_servers_question_is_not_passed_on_to_the_mirror(void **state)
{
    mirrored *m = *state;
    wa_error err = WA_ERROR_INIT;
    wa_store *far = wa_store_member(m->store, 1);
    lose(m, 0);
    uint64_t before = wa_store_requests(far, "head") + wa_store_requests(far, "list");
    FAILS(get(m, WA_GET_STANDBY, &err), WA_NOT_FOUND);
    assert_int_equal(wa_store_requests(far, "head") + wa_store_requests(far, "list"), before);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_person_is_told_which_repository_has_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_servers_question_is_not_passed_on_to_the_mirror, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
