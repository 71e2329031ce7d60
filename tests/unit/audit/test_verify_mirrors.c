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

static wa_store *near, *far; /* the fixture's main store and mirror: faults */

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
    near = wa_store_fault_new(wa_store_mem_new());
    OK(wa_repo_of_store(wa_store_mirror_new(near, &mirror, 1), "main", 1, &f->repo, &f->err));
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
damage_of(fixture *f, size_t member, wa_segno segno)
{
    wa_store *store = wa_store_member(wa_repo_store(f->repo), member);
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(f->repo, &f->branch, segno);
    WA_CLEANUP(wa_freep) char *meta = NULL;
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(2 * SEGMENT);
    OK(wa_store_get(store, key, 0, UINT64_MAX, &object, &meta, &f->err));
    object.data[object.len / 4] ^= 1;
    wa_body body = {.data = object.data, .len = object.len, .fd = -1};
    OK(wa_store_put(store, key, &body, meta, WA_PUT_REPLACE, &f->err));
}

static void
damage_in(fixture *f, size_t member)
{
    damage_of(f, member, DAMAGED);
}

/* Without conditions of its own: whatever is put, the object is sound. */
static void
put_in_mirror(fixture *f, const void *bytes)
{
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(f->repo, &f->branch, DAMAGED);
    WA_CLEANUP(wa_repo_freep) wa_repo *mirror = wa_repo_member(f->repo, 1);
    wa_put_outcome outcome;
    wa_strv_add(&keys, key);
    OK(wa_store_delete(far, &keys, &f->err));
    OK(wa_wal_put(mirror, &f->branch, DAMAGED, bytes, NULL, 1, NULL, true, &outcome, &f->err));
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

/* Each answer of a store that is away takes a minute. */
static void
a_mirror_that_is_away_is_asked_once(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = {0};
    WA_CLEANUP(wa_repo_freep) wa_repo *alone = wa_repo_member(f->repo, 0);
    wa_verify_options options = {.repo = alone, .mirrored = f->repo, .wal = true, .jobs = 1};
    for (wa_segno s = 2; s < LAST; s++)
        damage_of(f, 0, s);
    wa_store_fault_set(far, "any", 1, 1000000, WA_FAULT_FAIL);
    OK(wa_verify_run(&options, &r, &f->err));
    assert_int_equal(wa_store_fault_hits(far), 1);
    assert_int_equal(count_kind(&r, "segment"), LAST - 2);
    for (size_t i = 0; i < r.damage_count; i++)
        if (strcmp(r.damage[i].kind, "segment") == 0)
            assert_non_null(strstr(r.damage[i].cost,
                                   "repository \"far\" may have it whole but could not be asked: "
                                   "could not get"));
}

/* What a mirror lacks, or has no right to say, is no reason not to ask it for the next one. */
static void
a_mirror_that_has_one_damaged_is_asked_for_the_next(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = {0};
    WA_CLEANUP(wa_repo_freep) wa_repo *alone = wa_repo_member(f->repo, 0);
    wa_verify_options options = {.repo = alone, .mirrored = f->repo, .wal = true, .jobs = 1};
    damage_of(f, 0, 2);
    damage_of(f, 1, 2);
    damage_of(f, 0, 4);
    OK(wa_verify_run(&options, &r, &f->err));
    assert_int_equal(count_kind(&r, "segment"), 2);
    assert_null(r.damage[0].mirror);
    assert_string_equal(r.damage[1].mirror, "far");
}

static void
lose_it(void *arg)
{
    fixture *f = arg;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(f->repo, &f->branch, DAMAGED);
    wa_strv_add(&keys, key);
    OK(wa_store_delete(near, &keys, &f->err));
}

/* archive-get asks no mirror for what the main repository says it doesn't have. The object goes
 * before the n-th request of verify: for some n, between its listing and its reading. */
static void
what_the_main_repository_lacks_a_mirror_does_not_give(void **state)
{
    fixture *f = *state;
    size_t lost = 0;
    WA_CLEANUP(wa_repo_freep) wa_repo *alone = wa_repo_member(f->repo, 0);
    wa_verify_options options = {.repo = alone, .mirrored = f->repo, .wal = true, .jobs = 1};
    for (unsigned n = 1; n < 40; n++) {
        wa_put_outcome outcome;
        WA_CLEANUP(wa_verify_result_done) wa_verify_result r = {0};
        wa_store_fault_before(near, "get", n, lose_it, f);
        OK(wa_verify_run(&options, &r, &f->err));
        for (size_t i = 0; i < r.damage_count; i++) {
            lost += strcmp(r.damage[i].kind, "segment") == 0;
            assert_null(r.damage[i].mirror);
            if (r.damage[i].cost != NULL && strcmp(r.damage[i].kind, "hole") != 0)
                assert_null(strstr(r.damage[i].cost, "far"));
        }
        OK(wa_wal_put(alone, &f->branch, DAMAGED, wal_bytes(f->wal) + (DAMAGED - 1) * SEGMENT, NULL,
                      1, NULL, true, &outcome, &f->err));
    }
    assert_true(lost > 0);
}

static void
a_mirrors_copy_that_is_cut_short_is_no_promise(void **state)
{
    fixture *f = *state;
    char mirror[64];
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = {0};
    WA_CLEANUP(wa_freep) uint8_t *cut = wa_calloc(1, SEGMENT);
    memcpy(cut, wal_bytes(f->wal) + (DAMAGED - 1) * SEGMENT, SEGMENT / 2);
    put_in_mirror(f, cut);
    damage_in(f, 0);
    const wa_damage *d = verify_main(f, &r, mirror, sizeof mirror);
    assert_null(d->mirror);
    assert_string_equal(mirror, "null");
    assert_null(strstr(d->cost, "far"));
}

/* Sound WAL that archive-get would refuse: of another cluster, of a timeline that is not the
 * branch's, of another place. */
static void
a_mirrors_copy_of_other_wal_is_no_promise(void **state)
{
    const wal_builder_options others[] = {
        {.system_identifier = SYSTEM + 1}, {.tli = 2}, {.start = SEGMENT * UINT64_C(11)}};
    fixture *f = *state;
    damage_in(f, 0);
    for (size_t i = 0; i < WA_ARRAY_SIZE(others); i++) {
        char mirror[64];
        WA_CLEANUP(wa_verify_result_done) wa_verify_result r = {0};
        wal_builder *other = wal_builder_new(&others[i]);
        while (wal_size(other) < DAMAGED * (size_t)SEGMENT)
            wal_add_noise(other, 701, 20000);
        put_in_mirror(f, wal_bytes(other) + (DAMAGED - 1) * SEGMENT);
        wal_builder_free(other);
        const wa_damage *d = verify_main(f, &r, mirror, sizeof mirror);
        assert_null(d->mirror);
        assert_string_equal(mirror, "null");
        assert_null(strstr(d->cost, "far"));
    }
}

static void
remove_from(fixture *f, wa_store *store)
{
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(f->repo, &f->branch, DAMAGED);
    wa_strv_add(&keys, key);
    OK(wa_store_delete(store, &keys, &f->err));
}

/* What the one hole costs; goes with ret. */
static const char *
cost_of_hole(fixture *f, wa_verify_result *ret)
{
    WA_CLEANUP(wa_repo_freep) wa_repo *alone = wa_repo_member(f->repo, 0);
    wa_verify_options options = {.repo = alone, .mirrored = f->repo, .wal = true, .jobs = 2};
    OK(wa_verify_run(&options, ret, &f->err));
    assert_int_equal(count_kind(ret, "hole"), 1);
    for (size_t i = 0; i < ret->damage_count; i++)
        if (strcmp(ret->damage[i].kind, "hole") == 0)
            return ret->damage[i].cost;
    return "";
}

/* It is not read there by itself: that WAL doesn't exist is the main repository's word. */
static void
a_hole_names_the_mirror_that_has_all_of_it(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_verify_result_done) wa_verify_result r = {0}, neither = {0}, away = {0};
    remove_from(f, near);
    const char *cost = cost_of_hole(f, &r);
    assert_non_null(strstr(cost, "can't be reached"));
    assert_non_null(
        strstr(cost, "repository \"far\" has it: \"--repository far\" reads that copy"));
    wa_store_fault_set(far, "any", 1, 1000000, WA_FAULT_FAIL);
    cost = cost_of_hole(f, &away);
    assert_non_null(strstr(cost, "can't be reached"));
    assert_non_null(
        strstr(cost, "repository \"far\" may have it but could not be asked: could not"));
    wa_store_fault_set(far, "any", 0, 0, WA_FAULT_FAIL);
    remove_from(f, far);
    cost = cost_of_hole(f, &neither);
    assert_non_null(strstr(cost, "can't be reached"));
    assert_null(strstr(cost, "far"));
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
        T(a_mirror_that_is_away_is_asked_once),
        T(a_mirror_that_has_one_damaged_is_asked_for_the_next),
        T(what_the_main_repository_lacks_a_mirror_does_not_give),
        T(a_mirrors_copy_that_is_cut_short_is_no_promise),
        T(a_mirrors_copy_of_other_wal_is_no_promise),
        T(a_hole_names_the_mirror_that_has_all_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
