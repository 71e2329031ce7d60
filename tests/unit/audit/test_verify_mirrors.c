/*
 * test_verify_mirrors.c - what verify says of a segment that the main repository has damaged: the
 * damage is there, and whether it costs anything depends on the mirrors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "verify_fixture.h"

#include "walagent/store/mirror.h"

#define LAST 6u
#define DAMAGED 3u

static wa_store *far; /* the fixture's mirror */

/* As the command has it: one handle with the mirror, one of the main repository alone. */
static int
set_up(void **state)
{
    fixture *f = wa_calloc(1, sizeof *f);
    wa_cluster identity = {
        .system_identifier = SYSTEM, .major = 15, .segment_size = SEGMENT, .since = wa_time_now()};
    bool created = false;
    far = wa_store_fault_new(wa_store_mem_new());
    wa_mirror mirror = {far, "far"};
    OK(wa_repo_of_store(wa_store_mirror_new(wa_store_mem_new(), &mirror, 1), "main", 1, &f->repo,
                        &f->err));
    OK(wa_repo_init(f->repo, &identity, false, &created, &f->err));
    f->branch = wa_branch_of(SYSTEM, 1, NULL, 0, NULL, 0);
    f->wal = wal_builder_new(NULL);
    while (wal_size(f->wal) < LAST * (size_t)SEGMENT) {
        wal_add_commit(f->wal, 700, 1000000);
        wal_add_noise(f->wal, 701, 20000);
    }
    for (wa_segno s = 1; s <= LAST; s++)
        put_segment(f, s, wal_bytes(f->wal) + (s - 1) * SEGMENT);
    add_backup(f, SEGMENT + 40, SEGMENT + 80);
    *state = f;
    return 0;
}

static void
damage_in(fixture *f, size_t member)
{
    wa_store *store = wa_store_member(wa_repo_store(f->repo), member);
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(f->repo, &f->branch, DAMAGED);
    WA_CLEANUP(wa_freep) char *meta = NULL;
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(2 * SEGMENT);
    OK(wa_store_get(store, key, 0, UINT64_MAX, &object, &meta, &f->err));
    object.data[object.len / 4] ^= 1;
    wa_body body = {.data = object.data, .len = object.len, .fd = -1};
    OK(wa_store_put(store, key, &body, meta, WA_PUT_REPLACE, &f->err));
}

/* The one damage, and what of it JSON has under `mirror`; both go with ret. */
static const wa_damage *
verify_main(fixture *f, wa_verify_result *ret, char *ret_mirror, size_t size)
{
    WA_CLEANUP(wa_repo_freep) wa_repo *alone = wa_repo_member(f->repo, 0);
    wa_verify_options options = {.repo = alone, .mirrored = f->repo, .wal = true, .jobs = 2};
    OK(wa_verify_run(&options, ret, &f->err));
    assert_int_equal(ret->damage_count, 1);
    assert_int_equal(ret->warning_count, 0);
    assert_string_equal(ret->damage[0].kind, "segment");
    WA_CLEANUP(wa_json_freep) json_t *json = wa_verify_to_json(ret);
    const json_t *one = json_array_get(json_object_get(json, "damage"), 0);
    assert_non_null(json_object_get(one, "mirror"));
    (void)snprintf(ret_mirror, size, "%s", wa_json_string_or(one, "mirror", "null"));
    return &ret->damage[0];
}

static void
what_a_mirror_has_whole_is_damage_and_can_be_reached(void **state)
{
    fixture *f = *state;
    char mirror[64];
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = {0};
    damage_in(f, 0);
    const wa_damage *d = verify_main(f, &r, mirror, sizeof mirror);
    assert_string_equal(d->mirror, "far");
    assert_string_equal(mirror, "far");
    assert_null(strstr(d->cost, "can't be reached"));
    assert_non_null(strstr(d->cost, "repository \"far\" has it whole"));
}

static void
what_is_damaged_in_both_costs_what_lies_behind_it(void **state)
{
    fixture *f = *state;
    char mirror[64];
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = {0};
    damage_in(f, 0);
    damage_in(f, 1);
    const wa_damage *d = verify_main(f, &r, mirror, sizeof mirror);
    assert_null(d->mirror);
    assert_string_equal(mirror, "null");
    assert_non_null(strstr(d->cost, "can't be reached"));
    assert_null(strstr(d->cost, "far"));
}

static void
a_mirror_without_the_segment_is_no_help(void **state)
{
    fixture *f = *state;
    char mirror[64];
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = {0};
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(f->repo, &f->branch, DAMAGED);
    damage_in(f, 0);
    wa_strv_add(&keys, key);
    OK(wa_store_delete(far, &keys, &f->err));
    const wa_damage *d = verify_main(f, &r, mirror, sizeof mirror);
    assert_null(d->mirror);
    assert_non_null(strstr(d->cost, "can't be reached"));
    assert_null(strstr(d->cost, "far"));
}

static void
a_mirror_that_is_away_may_have_it_and_is_named(void **state)
{
    fixture *f = *state;
    char mirror[64];
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = {0};
    damage_in(f, 0);
    wa_store_fault_set(far, "any", 1, 1000000, WA_FAULT_FAIL);
    const wa_damage *d = verify_main(f, &r, mirror, sizeof mirror);
    assert_null(d->mirror);
    assert_non_null(strstr(d->cost, "can't be reached"));
    assert_non_null(strstr(d->cost, "repository \"far\" may have it whole but could not be asked"));
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, teardown)
    const struct CMUnitTest tests[] = {
        T(what_a_mirror_has_whole_is_damage_and_can_be_reached),
        T(what_is_damaged_in_both_costs_what_lies_behind_it),
        T(a_mirror_without_the_segment_is_no_help),
        T(a_mirror_that_is_away_may_have_it_and_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
