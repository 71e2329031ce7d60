/*
 * Tests that a target behind WAL which can't be read is refused, with the damaged segment and the
 * nearest points, and that those are true. One archive, damaged in every way.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "proof_fixture.h"

static void
check_kinds(const archive *a, damage how)
{
    const char *what = damage_name[how];
    wa_restore_options behind[] = {
        at_time(DAMAGED),
        at_time(DAMAGED + 1),
        {.kind = WA_TARGET_XID, .xid = 1000 + 2 * (DAMAGED + 1)},
        {.kind = WA_TARGET_NAME, .name = "point-6"},
        {.kind = WA_TARGET_LSN, .lsn = a->middle[DAMAGED + 1]},
        {.kind = WA_TARGET_LATEST, .backup_label = LABEL_A},
        {.kind = WA_TARGET_CONSISTENT, .backup_label = LABEL_A},
        {.kind = WA_TARGET_LATEST},
        at_time(BACKUP_B + 1),
        at_time(DAMAGED - 1),
    };
    for (size_t i = 0; i < 6; i++)
        is_refused(a, behind[i], true, what);
    reaches(a, behind[6], LABEL_A, what);
    reaches(a, behind[7], LABEL_B, what);
    reaches(a, behind[8], LABEL_B, what);
    reaches(a, behind[9], LABEL_A, what);
}

static void
a_target_behind_wal_that_cannot_be_read_is_refused(void **state)
{
    (void)state;
    for (damage how = TORN; how <= BAD_RECORD_KNOWN; how++) {
        archive a;
        archive_open(&a, how);
        check_kinds(&a, how);
        archive_close(&a);
    }
}

static void
without_damage_nothing_is_refused(void **state)
{
    (void)state;
    archive a;
    archive_open(&a, NONE);
    for (wa_segno s = BACKUP_A + 1; s < LAST; s++)
        reaches(&a, at_time(s), s < BACKUP_B ? LABEL_A : LABEL_B, "a time");
    reaches(&a, (wa_restore_options){.kind = WA_TARGET_LATEST}, LABEL_B, "latest");
    reaches(&a, (wa_restore_options){.kind = WA_TARGET_LATEST, .backup_label = LABEL_A}, LABEL_A,
            "latest");
    archive_close(&a);
}

/* What a listing and the index tell. */
static void
of_much_wal_missing_and_unchecked_segments_are_found_without_reading_all(void **state)
{
    (void)state;
    static const damage seen[] = {GONE, BAD_RECORD_KNOWN};
    wa_restore_options o = {
        .kind = WA_TARGET_LATEST, .backup_label = LABEL_A, .read_wal_max = SEGMENT};
    for (size_t i = 0; i < 2; i++) {
        archive a;
        archive_open(&a, seen[i]);
        is_refused(&a, o, true, damage_name[seen[i]]);
        archive_close(&a);
    }
    also_unchecked = DAMAGED;
    archive a;
    archive_open(&a, ZEROES);
    also_unchecked = 0;
    is_refused(&a, o, true, "unchecked and ends in zeroes");
    archive_close(&a);
}

/* What lies between the unchecked segments counts too. */
static void
of_much_wal_the_nearest_point_is_the_last_one_before_the_damage(void **state)
{
    (void)state;
    char time[WA_TIME_TEXT];
    wa_error err = WA_ERROR_INIT;
    wa_restore_plan *p = NULL;
    archive a;
    also_unchecked = 3;
    bad_segment = DAMAGED;
    bad_at = 100;
    archive_open(&a, NONE);
    also_unchecked = bad_segment = 0;
    wa_restore_options o = {
        .kind = WA_TARGET_LATEST, .backup_label = LABEL_A, .read_wal_max = SEGMENT};
    is_refused(&a, o, true, "a record that begins the segment");
    assert_int_equal(plan(&a, o, &p, &err), WA_UNREACHABLE);
    wa_time_format(T0 + (DAMAGED - 1) * MINUTE + 1000, time);
    assert_non_null(strstr(err.hint, time));
    archive_close(&a);
}

static void
a_bad_record_before_the_backup_refuses_nothing(void **state)
{
    (void)state;
    for (int much = 0; much < 2; much++)
        for (int near = 0; near < 2; near++) {
            archive a;
            archive_open(&a, NONE);
            size_t start = a.middle[BACKUP_A - 1] % SEGMENT;
            archive_close(&a);
            bad_segment = BACKUP_A - 1;
            bad_at = near ? start - 20 : SEGMENT / 6;
            archive_open(&a, NONE);
            bad_segment = 0;
            wa_restore_options o = {.kind = WA_TARGET_LATEST,
                                    .backup_label = LABEL_A,
                                    .read_wal_max = much ? SEGMENT : 0};
            reaches(&a, o, LABEL_A, near ? "just before it" : "before it");
            archive_close(&a);
        }
}

/* The transaction that comes next is told, not needed. */
static void
a_backups_own_end_is_reached_whatever_is_behind_it(void **state)
{
    (void)state;
    archive a;
    bad_segment = 3;
    bad_at = SEGMENT / 6;
    archive_open(&a, NONE);
    bad_segment = 0;
    put_backup(a.repo, LABEL_C,
               &(wa_backup_info){.branch = a.branch,
                                 .end_branch = a.branch,
                                 .start_lsn = a.middle[1],
                                 .end_lsn = a.behind[2],
                                 .start_time = T0 + MINUTE + 1000,
                                 .end_time = T0 + 2 * MINUTE + 3000});
    reaches(&a, (wa_restore_options){.kind = WA_TARGET_CONSISTENT, .backup_label = LABEL_C},
            LABEL_C, "its own end");
    archive_close(&a);
}

static void
a_replica_with_a_primary_is_warned_only(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    archive a;
    archive_open(&a, TORN);
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
    wa_restore_options o = {.kind = WA_TARGET_LATEST,
                            .backup_label = LABEL_A,
                            .standby = true,
                            .primary_conninfo = "host=db1",
                            .read_wal_max = UINT64_MAX};
    OK(plan(&a, o, &p, &err));
    assert_non_null(strstr(p->text, "WARNING"));
    assert_non_null(strstr(p->text, "000000010000000000000005"));
    assert_false(p->wal_read);
    wa_restore_plan_free(WA_TAKE(p));
    o.read_wal_max = 0; /* only a warning comes of it: not worth the wait */
    OK(plan(&a, o, &p, &err));
    assert_non_null(strstr(p->text, "not read beforehand"));
    assert_false(p->wal_read);
    archive_close(&a);
}

/* Where the last transaction is told from, too. */
static void
a_replica_with_a_primary_is_not_refused_for_damage_at_the_end(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
    archive a;
    bad_segment = LAST;
    bad_at = SEGMENT / 6;
    archive_open(&a, NONE);
    bad_segment = 0;
    wa_restore_options o = {
        .kind = WA_TARGET_LATEST, .standby = true, .primary_conninfo = "host=db1"};
    OK(plan(&a, o, &p, &err));
    assert_string_equal(p->backup->label, LABEL_B);
    assert_non_null(strstr(p->text, "000000010000000000000014"));
    archive_close(&a);
}

static wa_mono
slow_clock(void) /* three seconds go by from one look to the next */
{
    static wa_mono ms = 1000;
    return ms += 3000;
}

static void
reading_ends_when_it_takes_long_and_the_plan_says_so(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
    archive a;
    archive_open(&a, BAD_RECORD);
    wa_restore_options o = {.kind = WA_TARGET_LATEST, .backup_label = LABEL_A, .clock = slow_clock};
    OK(plan(&a, o, &p, &err)); /* it didn't come to the damage */
    assert_false(p->wal_read);
    assert_non_null(strstr(p->text, "--check-wal reads all"));
    wa_restore_plan_free(WA_TAKE(p));
    o.read_wal_max = UINT64_MAX;
    assert_int_equal(plan(&a, o, &p, &err), WA_UNREACHABLE);
    archive_close(&a);
}

/* The chunks of a segment whose object is damaged may still be there. */
static void
chunks_stand_in_for_a_damaged_object(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    archive a;
    archive_open(&a, TORN);
    const uint8_t *bytes = wal_bytes(a.wal) + (DAMAGED - 1) * SEGMENT;
    OK(wa_tail_put(a.repo, &a.branch, 1, DAMAGED * SEGMENT, DAMAGED * SEGMENT, bytes, SEGMENT, NULL,
                   true, &err));
    reaches(&a, (wa_restore_options){.kind = WA_TARGET_LATEST, .backup_label = LABEL_A}, LABEL_A,
            "latest");
    archive_close(&a);
}

/* An archive may end in zeroes, where nothing else may. */
static void
zeroes_at_the_end_of_the_archive_are_no_damage(void **state)
{
    (void)state;
    archive a;
    archive_open(&a, ENDS_IN_ZEROES);
    reaches(&a, (wa_restore_options){.kind = WA_TARGET_LATEST}, LABEL_B, "latest");
    archive_close(&a);
}

static void
damage_before_a_backup_is_told_and_no_reason_to_refuse(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
    archive a;
    bad_segment = BACKUP_B - 1; /* the backup begins at two thirds of it */
    bad_at = SEGMENT / 6;
    archive_open(&a, NONE);
    bad_segment = 0;
    OK(plan(&a, at_time(BACKUP_B + 1), &p, &err));
    assert_string_equal(p->backup->label, LABEL_B);
    assert_non_null(strstr(p->text, "is not known from the WAL"));
    wa_restore_plan_free(WA_TAKE(p));
    wa_restore_options o = {.kind = WA_TARGET_TIME, .time = T0 + LAST * MINUTE + 1500};
    OK(plan(&a, o, &p, &err));
    assert_non_null(strstr(p->text, "is not known from the WAL"));
    assert_non_null(strstr(p->text, "nothing was committed after that time"));
    archive_close(&a);
}

static void
wal_that_cannot_be_parsed_does_not_count_as_read(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
    archive a;
    magic = 0xDF00;
    archive_open(&a, NONE);
    magic = 0;
    OK(plan(&a, (wa_restore_options){.kind = WA_TARGET_LATEST}, &p, &err));
    assert_false(p->wal_read);
    assert_non_null(strstr(p->text, "major version that can't be read"));
    archive_close(&a);
}

/* Timeline 2 leaves in the middle of segment 12 and has all of it from there on. */
static void
fork_in_twelve(archive *a)
{
    wa_error err = WA_ERROR_INIT;
    wa_put_outcome outcome;
    wa_wal_facts facts;
    wa_segment_check check;
    char history[100], lsn[WA_LSN_TEXT];
    wa_lsn fork = a->middle[12];
    snprintf(history, sizeof history, "1\t%s\tno recovery target specified\n",
             wa_lsn_format(fork, lsn));
    wa_branch child = wa_branch_of(SYSTEM_ID, 2, history, strlen(history), "rec", 3);
    OK(wa_history_put(a->repo, &child, history, strlen(history), &err));
    for (wa_segno s = 12; s <= LAST; s++) {
        const uint8_t *bytes = wal_bytes(a->wal) + (s - 1) * SEGMENT;
        wa_wal_facts_init(&facts);
        OK(wa_segment_check_all(bytes, SEGMENT, s * SEGMENT, add_fact, &facts, &check, &err));
        OK(wa_wal_put(a->repo, &child, s, bytes, NULL, 1, &facts, true, &outcome, &err));
    }
    wa_lineage *l = wa_lineage_new();
    wa_lineage_append(l, &a->branch, 0);
    wa_lineage_append(l, &child, fork);
    l->epoch = 2;
    snprintf(l->writer, sizeof l->writer, "w");
    OK(wa_lineage_store(a->repo, l, &err));
    wa_lineage_free(l);
}

/* The server reads the newest timeline's file, and never the parent's. A target before the fork is
 * another matter: then it doesn't follow that timeline. */
static void
a_parents_damaged_segment_of_a_fork_is_not_needed_by_who_follows_the_child(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    archive a;
    archive_open(&a, NONE);
    fork_in_twelve(&a);
    char *key = wa_wal_key(a.repo, &a.branch, 12);
    wa_body body = {.data = "half an object", .len = 14, .fd = -1};
    OK(wa_store_put(a.store, key, &body, NULL, WA_PUT_REPLACE, &err));
    free(key);
    reaches(&a, (wa_restore_options){.kind = WA_TARGET_LATEST}, LABEL_B, "latest");
    reaches(&a, at_time(13), LABEL_B, "a time behind the fork");
    wa_restore_plan *p = NULL;
    assert_int_equal(plan(&a, at_time(12), &p, &err), WA_OK); /* the fork is the target */
    wa_restore_plan_free(p);
    wa_restore_options before = {.kind = WA_TARGET_TIME, .time = T0 + 12 * MINUTE - 1};
    p = NULL;
    assert_int_equal(plan(&a, before, &p, &err), WA_UNREACHABLE);
    assert_non_null(strstr(err.message, "00000001000000000000000C"));
    archive_close(&a);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_behind_wal_that_cannot_be_read_is_refused),
        cmocka_unit_test(without_damage_nothing_is_refused),
        cmocka_unit_test(of_much_wal_missing_and_unchecked_segments_are_found_without_reading_all),
        cmocka_unit_test(a_replica_with_a_primary_is_warned_only),
        cmocka_unit_test(a_replica_with_a_primary_is_not_refused_for_damage_at_the_end),
        cmocka_unit_test(reading_ends_when_it_takes_long_and_the_plan_says_so),
        cmocka_unit_test(chunks_stand_in_for_a_damaged_object),
        cmocka_unit_test(damage_before_a_backup_is_told_and_no_reason_to_refuse),
        cmocka_unit_test(wal_that_cannot_be_parsed_does_not_count_as_read),
        cmocka_unit_test(of_much_wal_the_nearest_point_is_the_last_one_before_the_damage),
        cmocka_unit_test(a_bad_record_before_the_backup_refuses_nothing),
        cmocka_unit_test(a_backups_own_end_is_reached_whatever_is_behind_it),
        cmocka_unit_test(zeroes_at_the_end_of_the_archive_are_no_damage),
        cmocka_unit_test(
            a_parents_damaged_segment_of_a_fork_is_not_needed_by_who_follows_the_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
