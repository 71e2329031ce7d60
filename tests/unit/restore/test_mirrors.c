/*
 * Tests of restores from an archive that is damaged in the main repository and whole in a mirror:
 * the plan reads what archive-get gives to the server later.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "proof_fixture.h"

#define SEGMENT_5 "000000010000000000000005"

/* The archive takes far. */
static void
open_mirrored(archive *a, wa_store *far, damage how)
{
    mirror = far;
    archive_open(a, how);
}

/* One bit of the stored bytes; the facts at their end stay readable. */
static void
flip_bit(archive *a, size_t member, wa_segno s)
{
    wa_error err = WA_ERROR_INIT;
    wa_store *store = wa_store_member(a->store, member);
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(a->repo, &a->branch, s);
    WA_CLEANUP(wa_freep) char *meta = NULL;
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(16 * SEGMENT);
    OK(wa_store_get(store, key, 0, UINT64_MAX, &object, &meta, &err));
    object.data[object.len / 4] ^= 1;
    wa_body body = {.data = object.data, .len = object.len, .fd = -1};
    OK(wa_store_put(store, key, &body, meta, WA_PUT_REPLACE, &err));
}

static void
is_read_from_the_mirror(const archive *a, wa_restore_options o, bool told)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
    uint64_t served = wa_store_mirror_served(a->store);
    OK(plan(a, o, &p, &err));
    assert_string_equal(p->backup->label, LABEL_A);
    assert_true(p->wal_read == (o.read_wal_max == 0));
    assert_int_equal(told, served < wa_store_mirror_served(a->store));
    assert_int_equal(
        told, strstr(p->text, "WARNING: 1 WAL segment is damaged in the main repository and read "
                              "from a mirror (\"" SEGMENT_5 "\", from \"far\")") != NULL);
}

static void
what_the_main_repository_has_damaged_is_read_from_the_mirror(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        bool much = i % 2 == 1, torn = i / 2 == 1;
        uint64_t most = much ? SEGMENT : 0;
        wa_restore_options time = at_time(DAMAGED);
        time.read_wal_max = most;
        archive a;
        open_mirrored(&a, wa_store_mem_new(), torn ? TORN : NONE);
        if (!torn)
            flip_bit(&a, 0, DAMAGED);
        is_read_from_the_mirror(&a, time, true);
        is_read_from_the_mirror(&a,
                                (wa_restore_options){.kind = WA_TARGET_XID,
                                                     .xid = 1001 + 2 * DAMAGED,
                                                     .read_wal_max = most},
                                true);
        is_read_from_the_mirror(&a,
                                (wa_restore_options){.kind = WA_TARGET_LATEST,
                                                     .backup_label = LABEL_A,
                                                     .read_wal_max = most},
                                !much);
        archive_close(&a);
    }
}

/* The facts of the last segment tell how far the archive reaches in time. */
static void
the_end_of_the_archive_is_read_from_the_mirror(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
    archive a;
    open_mirrored(&a, wa_store_mem_new(), NONE);
    tear(&a, LAST);
    wa_restore_options o = {.kind = WA_TARGET_TIME, .time = T0 + LAST * MINUTE + 1500};
    OK(plan(&a, o, &p, &err));
    assert_true(p->end_of_archive);
    assert_true(p->before.known && p->before.xid == 1001 + 2 * LAST);
    archive_close(&a);
}

/* archive-get says of it that it is not there, and the recovery would end. */
static void
what_the_main_repository_has_not_is_not_read_from_the_mirror(void **state)
{
    (void)state;
    archive a;
    open_mirrored(&a, wa_store_mem_new(), GONE);
    is_refused(&a, (wa_restore_options){.kind = WA_TARGET_LATEST, .backup_label = LABEL_A}, true,
               "gone");
    archive_close(&a);
}

static void
delete_in(archive *a, size_t member, const char *key)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv gone = {0};
    wa_strv_add(&gone, key);
    OK(wa_store_delete(wa_store_member(a->store, member), &gone, &err));
}

static wa_status
collect_index(void *arg, const wa_object *object, wa_error *err)
{
    (void)err;
    if (strstr(object->key, "/index/") != NULL)
        wa_strv_add(arg, object->key);
    return WA_OK;
}

/* The index doesn't speak for the segment any more: coverage has a hole. */
static void
drop_index(archive *a)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    wa_list_options all = {.prefix = ""};
    wa_store *store = wa_store_member(a->store, 0);
    OK(wa_store_list(store, &all, collect_index, &keys, &err));
    assert_true(keys.count > 0);
    OK(wa_store_delete(store, &keys, &err));
}

static void
is_hinted_at(const archive *a, wa_restore_options o, bool wanted)
{
    wa_error err = WA_ERROR_INIT;
    wa_restore_plan *p = NULL;
    assert_int_equal(plan(a, o, &p, &err), WA_UNREACHABLE);
    assert_int_equal(wanted, strstr(err.hint, "Repository \"far\" has WAL segment \"" SEGMENT_5
                                              "\", which the main one lacks: \"--repository "
                                              "far\"") != NULL);
    assert_true(wanted || strstr(err.hint, "--repository") == NULL);
}

static void
a_refusal_names_the_mirror_that_has_what_the_main_repository_lacks(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        bool index = i % 2 == 0, there = i < 2;
        archive a;
        open_mirrored(&a, wa_store_mem_new(), GONE);
        wa_restore_options lsn = {
            .kind = WA_TARGET_LSN, .lsn = a.middle[DAMAGED + 1], .backup_label = LABEL_A};
        wa_restore_options time = at_time(DAMAGED + 1);
        WA_CLEANUP(wa_freep) char *key = wa_wal_key(a.repo, &a.branch, DAMAGED);
        if (!there)
            delete_in(&a, 1, key);
        if (!index)
            drop_index(&a);
        time.backup_label = LABEL_A;
        is_hinted_at(&a, lsn, there);
        is_hinted_at(&a, time, there);
        archive_close(&a);
    }
}

/* And its last segment, behind which the main repository ends. */
static void
the_end_of_the_main_repository_may_not_be_that_of_the_mirror(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_restore_plan *p = NULL;
    archive a;
    open_mirrored(&a, wa_store_mem_new(), NONE);
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(a.repo, &a.branch, LAST);
    delete_in(&a, 0, key);
    drop_index(&a);
    wa_restore_options o = {.kind = WA_TARGET_LSN, .lsn = a.middle[LAST]};
    assert_int_equal(plan(&a, o, &p, &err), WA_UNREACHABLE);
    assert_non_null(strstr(err.hint, "\"000000010000000000000014\", which the main one lacks"));
    archive_close(&a);
}

static void
what_is_damaged_in_both_is_refused(void **state)
{
    (void)state;
    archive a;
    open_mirrored(&a, wa_store_mem_new(), TORN);
    flip_bit(&a, 1, DAMAGED);
    is_refused(&a, at_time(DAMAGED), true, "both");
    archive_close(&a);
}

static void
a_refusal_names_the_mirror_that_could_not_be_asked(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_restore_plan *p = NULL;
    wa_store *far = wa_store_fault_new(wa_store_mem_new());
    archive a;
    open_mirrored(&a, far, TORN);
    wa_store_fault_set(far, "any", 1, 1000000, WA_FAULT_FAIL);
    assert_int_equal(plan(&a, at_time(DAMAGED), &p, &err), WA_UNREACHABLE);
    assert_non_null(strstr(err.message, SEGMENT_5));
    assert_non_null(strstr(err.hint, "Mirror \"far\" may have it whole but could not be asked"));
    archive_close(&a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_main_repository_has_damaged_is_read_from_the_mirror),
        cmocka_unit_test(the_end_of_the_archive_is_read_from_the_mirror),
        cmocka_unit_test(what_the_main_repository_has_not_is_not_read_from_the_mirror),
        cmocka_unit_test(a_refusal_names_the_mirror_that_has_what_the_main_repository_lacks),
        cmocka_unit_test(the_end_of_the_main_repository_may_not_be_that_of_the_mirror),
        cmocka_unit_test(what_is_damaged_in_both_is_refused),
        cmocka_unit_test(a_refusal_names_the_mirror_that_could_not_be_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
