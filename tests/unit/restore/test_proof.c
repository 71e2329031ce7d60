/*
 * Tests that a target behind WAL which can't be read is refused, with the damaged segment and the
 * nearest points, and that those are true. One archive, damaged in every way.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "walagent/repo/index.h"
#include "walagent/repo/tail.h"
#include "walagent/restore/restore.h"
#include "walagent/store/drivers.h"

#include "plan_fixture.h"
#include "wal_builder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAST 20u    /* segments 1 to this one */
#define DAMAGED 5u  /* between the backups */
#define BACKUP_A 2u /* the segments they begin and end in */
#define BACKUP_B 9u
#define LABEL_A "20261101T021400Z-F-000a"
#define LABEL_C "20261103T021400Z-F-000c"
#define LABEL_B "20261102T021400Z-F-000b"
#define T0 INT64_C(800000000000000)
#define MINUTE (INT64_C(60) * 1000000)

/* ENDS_IN_ZEROES is none: it is how the last segment of an archive may be. */
typedef enum damage {
    NONE,
    TORN,
    GONE,
    ZEROES,
    BAD_RECORD,
    BAD_RECORD_KNOWN,
    ENDS_IN_ZEROES
} damage;
static const char *const damage_name[] = {
    "none", "torn", "gone", "zeroes", "bad record", "bad record, known", "ends in zeroes"};

typedef struct archive {
    wa_store *store;
    wa_repo *repo;
    wa_branch branch;
    wal_builder *wal;
    wa_lsn middle[LAST + 1]; /* of the segment: where its second half's commit begins */
    wa_lsn behind[LAST + 1]; /* its restore point */
} archive;

static wa_segno crossing; /* ends in a record that goes on in the next segment */

/* A segment has two commits, one after a third and one after two thirds; the second is followed by
 * a restore point. */
static void
write_segment(archive *a, wa_segno s)
{
    char name[16];
    wal_fill_until(a->wal, s * SEGMENT + SEGMENT / 3);
    wal_add_commit(a->wal, 1000 + 2 * (uint32_t)s, T0 + (wa_time)s * MINUTE);
    wal_fill_until(a->wal, s * SEGMENT + SEGMENT * 2 / 3);
    a->middle[s] = wal_add_commit(a->wal, 1001 + 2 * (uint32_t)s, T0 + (wa_time)s * MINUTE + 1000);
    snprintf(name, sizeof name, "point-%u", (unsigned)s);
    wal_add_restore_point(a->wal, name, T0 + (wa_time)s * MINUTE + 2000);
    a->behind[s] = wal_position(a->wal);
    if (s != crossing) {
        wal_fill_segment(a->wal);
        return;
    }
    wal_fill_until(a->wal, (s + 1) * SEGMENT - 1000);
    while (wal_position(a->wal) < (s + 1) * SEGMENT)
        wal_add_noise(a->wal, 700, 600);
}

static wa_segno bad_segment; /* is archived with a bad byte at bad_at, unchecked */
static size_t bad_at;
static wa_segno also_unchecked; /* and nothing is wrong with it */
static uint16_t magic;          /* of WAL pages that nobody can parse; 0: of 15 */

static wa_status
add_fact(void *arg, const wa_record *record, wa_error *err)
{
    (void)err;
    wa_wal_facts_add(arg, record);
    return WA_OK;
}

/* What the archive gets of a segment. */
static void
put_segment(archive *a, wa_segno s, damage how)
{
    wa_error err = WA_ERROR_INIT;
    wa_put_outcome outcome;
    wa_segment_check check;
    wa_wal_facts facts;
    uint8_t *bytes = malloc(SEGMENT);
    memcpy(bytes, wal_bytes(a->wal) + (s - 1) * SEGMENT, SEGMENT);
    wa_wal_facts_init(&facts);
    if (magic == 0) {
        OK(wa_segment_check_all(bytes, SEGMENT, s * SEGMENT, add_fact, &facts, &check, &err));
        assert_true(check.complete);
    }
    bool here = s == DAMAGED;
    if (here && how == ZEROES)
        memset(bytes + SEGMENT / 2, 0, SEGMENT / 2);
    if (s == LAST && how == ENDS_IN_ZEROES)
        memset(bytes + a->middle[LAST] % SEGMENT, 0, SEGMENT - a->middle[LAST] % SEGMENT);
    if (here && (how == BAD_RECORD || how == BAD_RECORD_KNOWN))
        bytes[SEGMENT / 2] ^= 1;
    if (s == bad_segment)
        bytes[bad_at] ^= 1;
    OK(wa_wal_put(a->repo, &a->branch, s, bytes, NULL, 1, &facts,
                  s != bad_segment && s != also_unchecked && (!here || how != BAD_RECORD_KNOWN),
                  &outcome, &err));
    free(bytes);
}

/* Behind walagent's back, when the index knows the segment. */
static void
damage_object(archive *a, damage how)
{
    wa_error err = WA_ERROR_INIT;
    char *key = wa_wal_key(a->repo, &a->branch, DAMAGED);
    const char *keys[] = {key};
    if (how == TORN) {
        wa_body body = {.data = "half an object", .len = 14, .fd = -1};
        OK(wa_store_put(a->store, key, &body, NULL, WA_PUT_REPLACE, &err));
    } else if (how == GONE) {
        wa_strv gone = {0};
        wa_strv_add(&gone, keys[0]);
        OK(wa_store_delete(a->store, &gone, &err));
        wa_strv_done(&gone);
    }
    free(key);
}

static void
put_backup_in(archive *a, const char *label, wa_segno s)
{
    wa_backup_info what = {.branch = a->branch,
                           .end_branch = a->branch,
                           .start_lsn = a->middle[s - 1],
                           .end_lsn = a->middle[s],
                           .start_time = T0 + (wa_time)(s - 1) * MINUTE + 1000,
                           .end_time = T0 + (wa_time)s * MINUTE + 500};
    put_backup(a->repo, label, &what);
}

static void
archive_open(archive *a, damage how)
{
    wa_error err = WA_ERROR_INIT;
    bool created = false;
    wa_cluster identity = {.system_identifier = SYSTEM_ID, .major = 15, .segment_size = SEGMENT};
    *a = (archive){.store = wa_store_mem_new()};
    OK(wa_repo_of_store(a->store, "main", 1, &a->repo, &err));
    OK(wa_repo_init(a->repo, &identity, false, &created, &err));
    a->branch = wa_branch_of(SYSTEM_ID, 1, NULL, 0, NULL, 0);
    a->wal =
        wal_builder_new(&(wal_builder_options){.system_identifier = SYSTEM_ID, .magic = magic});
    for (wa_segno s = 1; s <= LAST; s++)
        write_segment(a, s);
    for (wa_segno s = 1; s <= LAST; s++)
        put_segment(a, s, how);
    put_backup_in(a, LABEL_A, BACKUP_A);
    put_backup_in(a, LABEL_B, BACKUP_B);
    OK(wa_index_update(a->repo, &a->branch, LAST, &err));
    damage_object(a, how);
}

static void
archive_close(archive *a)
{
    wal_builder_free(a->wal);
    wa_repo_free(a->repo);
}

static wa_status
plan(const archive *a, wa_restore_options o, wa_restore_plan **ret, wa_error *err)
{
    o.repo = a->repo;
    o.directory = "/nonexistent";
    return wa_restore_plan_make(&o, ret, err);
}

static void
reaches(const archive *a, wa_restore_options o, const char *label, const char *what)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
    if (plan(a, o, &p, &err) != WA_OK)
        fail_msg("%s: %s", what, err.message);
    assert_string_equal(p->backup->label, label);
    assert_true(p->wal_read == (o.read_wal_max == 0));
}

/* The refusal names the segment, and both points that it tells can be reached. */
static void
is_refused(const archive *a, wa_restore_options o, bool with_points, const char *what)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
    char lsn[32] = "";
    if (plan(a, o, &p, &err) != WA_UNREACHABLE)
        fail_msg("%s, kind %d: not refused (%s, %s)", what, (int)o.kind, wa_status_name(err.status),
                 err.message);
    if (strstr(err.message, "000000010000000000000005") == NULL)
        fail_msg("%s: the segment isn't named: %s", what, err.message);
    if (strstr(err.hint, LABEL_B) == NULL)
        fail_msg("%s: the backup behind it isn't named: %s", what, err.hint);
    const char *near = strstr(err.hint, "--to-lsn ");
    if (!with_points)
        return;
    assert_non_null(near);
    assert_int_equal(sscanf(near, "--to-lsn %31s", lsn), 1);
    wa_restore_options before = {.kind = WA_TARGET_LSN};
    wa_error ignored = WA_ERROR_INIT;
    assert_int_equal(wa_lsn_parse(lsn, &before.lsn, &ignored), WA_OK);
    assert_true(before.lsn > a->middle[DAMAGED - 1] && before.lsn < a->middle[DAMAGED]);
    reaches(a, before, LABEL_A, "the point before the damage");
}

static wa_restore_options
at_time(wa_segno s)
{
    return (wa_restore_options){.kind = WA_TARGET_TIME, .time = T0 + (wa_time)s * MINUTE + 500};
}

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
        is_refused(&a, o, false, damage_name[seen[i]]);
        archive_close(&a);
    }
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

/* With the option only. */
static void
is_let_past(const archive *a, wa_restore_options o, const char *segment)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
    assert_int_equal(plan(a, o, &p, &err), WA_UNREACHABLE);
    assert_non_null(strstr(err.message, segment));
    assert_non_null(strstr(err.hint, "--accept-unchecked-wal lets it try"));
    wa_error_clear(&err);
    o.accept_unchecked_wal = true;
    OK(plan(a, o, &p, &err));
    assert_non_null(strstr(p->text, "it was archived unchecked and is accepted as asked"));
    assert_non_null(strstr(p->text, segment));
    assert_false(p->wal_read);
}

/* What had to be looked for in such WAL, the option doesn't help to find: it isn't offered. */
static void
is_not_found_in_unchecked_wal(const archive *a, wa_restore_options o)
{
    static const char name[] = "--accept-unchecked-wal", no_help[] = " does not help";
    for (int accept = 0; accept < 2; accept++) {
        wa_error err = WA_ERROR_INIT;
        WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
        o.accept_unchecked_wal = accept;
        wa_status status = plan(a, o, &p, &err);
        assert_int_equal(status, o.kind == WA_TARGET_XID ? WA_CORRUPT : WA_UNREACHABLE);
        assert_non_null(strstr(err.message, "000000010000000000000005"));
        assert_non_null(strstr(err.hint, "--to-lsn"));
        assert_non_null(strstr(err.hint, LABEL_B));
        const char *named = strstr(err.hint, name);
        assert_int_equal(named != NULL, accept);
        assert_true(!accept || strncmp(named + strlen(name), no_help, strlen(no_help)) == 0);
    }
}

static void
a_target_within_unchecked_wal_is_not_offered_to_accept_it(void **state)
{
    (void)state;
    archive a;
    archive_open(&a, BAD_RECORD_KNOWN);
    is_not_found_in_unchecked_wal(&a, at_time(DAMAGED));
    is_not_found_in_unchecked_wal(
        &a, (wa_restore_options){.kind = WA_TARGET_LSN, .lsn = a.middle[DAMAGED]});
    is_not_found_in_unchecked_wal(
        &a, (wa_restore_options){.kind = WA_TARGET_XID, .xid = 1001 + 2 * DAMAGED});
    archive_close(&a);
}

/* The end of the archive needs no search. */
static void
unchecked_wal_at_the_end_of_the_archive_can_be_accepted(void **state)
{
    (void)state;
    archive a;
    bad_segment = LAST;
    bad_at = SEGMENT / 2;
    archive_open(&a, NONE);
    bad_segment = 0;
    is_let_past(&a, (wa_restore_options){.kind = WA_TARGET_LATEST}, "000000010000000000000014");
    archive_close(&a);
}

/* It is met in the next segment, which is checked. */
static void
a_bad_record_that_began_in_an_unchecked_segment_can_be_accepted(void **state)
{
    (void)state;
    archive a;
    crossing = bad_segment = DAMAGED - 1;
    bad_at = SEGMENT - 20;
    archive_open(&a, NONE);
    crossing = bad_segment = 0;
    is_let_past(&a, (wa_restore_options){.kind = WA_TARGET_LATEST, .backup_label = LABEL_A},
                "000000010000000000000005");
    archive_close(&a);
}

static void
unchecked_chunks_that_stand_in_can_be_accepted(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    archive a;
    archive_open(&a, TORN);
    uint8_t *bytes = malloc(SEGMENT);
    memcpy(bytes, wal_bytes(a.wal) + (DAMAGED - 1) * SEGMENT, SEGMENT);
    bytes[SEGMENT / 2] ^= 1;
    OK(wa_tail_put(a.repo, &a.branch, 1, DAMAGED * SEGMENT, DAMAGED * SEGMENT, bytes, SEGMENT, NULL,
                   false, &err));
    free(bytes);
    is_let_past(&a, (wa_restore_options){.kind = WA_TARGET_LATEST, .backup_label = LABEL_A},
                "000000010000000000000005");
    archive_close(&a);
}

/* Of the segment that a target lies in, what recovery reads is looked at, and no more. */
static void
the_unchecked_segment_of_the_target_is_looked_at_up_to_it(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
    archive a;
    archive_open(&a, BAD_RECORD_KNOWN);
    /* The index names the place of the restore point, behind the bad record. */
    is_let_past(
        &a,
        (wa_restore_options){.kind = WA_TARGET_NAME, .name = "point-5", .read_wal_max = SEGMENT},
        "000000010000000000000005");
    wa_restore_options before = {
        .kind = WA_TARGET_XID, .xid = 1000 + 2 * DAMAGED, .read_wal_max = SEGMENT};
    OK(plan(&a, before, &p, &err));
    assert_string_equal(p->backup->label, LABEL_A);
    archive_close(&a);
}

/* What lies before the backup is not told as what can be reached. */
static void
the_unchecked_segment_that_the_wal_begins_in_is_told_of_from_there_on(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    wa_restore_plan *p = NULL;
    archive a;
    also_unchecked = 1;
    bad_segment = 3;
    bad_at = SEGMENT / 6;
    archive_open(&a, NONE);
    also_unchecked = bad_segment = 0;
    put_backup(a.repo, LABEL_C,
               &(wa_backup_info){.branch = a.branch,
                                 .end_branch = a.branch,
                                 .start_lsn = a.behind[1],
                                 .end_lsn = a.middle[2],
                                 .start_time = T0 + MINUTE + 3000,
                                 .end_time = T0 + 2 * MINUTE + 500});
    wa_restore_options o = {
        .kind = WA_TARGET_LATEST, .backup_label = LABEL_C, .read_wal_max = SEGMENT};
    assert_int_equal(plan(&a, o, &p, &err), WA_UNREACHABLE);
    assert_non_null(strstr(err.hint, "--to-lsn"));
    assert_null(strstr(err.hint, "the last transaction"));
    archive_close(&a);
}

/* Our reader may be wrong about bytes that the server sent twice: there is a way past it, and only
 * past them. */
static void
what_was_archived_unchecked_can_be_accepted(void **state)
{
    (void)state;
    for (damage how = TORN; how <= BAD_RECORD_KNOWN; how++) {
        for (int much = 0; much < 2; much++) {
            wa_error err = WA_ERROR_INIT;
            WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
            wa_restore_options o = {.kind = WA_TARGET_LATEST,
                                    .backup_label = LABEL_A,
                                    .read_wal_max = much ? SEGMENT : 0};
            archive a;
            archive_open(&a, how);
            bool known = how == BAD_RECORD_KNOWN;
            wa_status before = plan(&a, o, &p, &err);
            assert_int_equal(before == WA_UNREACHABLE && known,
                             strstr(err.hint, "--accept-unchecked-wal") != NULL);
            assert_true(!known || before == WA_UNREACHABLE);
            wa_error_clear(&err);
            wa_restore_plan_free(WA_TAKE(p));
            o.accept_unchecked_wal = true;
            assert_int_equal(plan(&a, o, &p, &err), known ? WA_OK : before);
            if (known) {
                assert_non_null(strstr(p->text, "WARNING"));
                assert_non_null(strstr(p->text, "000000010000000000000005"));
                assert_false(p->wal_read);
            }
            archive_close(&a);
        }
    }
}

/* The WAL of a backup begins within a segment. */
static void
the_unchecked_segment_that_the_wal_begins_in_is_looked_at(void **state)
{
    (void)state;
    static const wa_segno seg[] = {BACKUP_A - 1, BACKUP_A};
    for (size_t i = 0; i < WA_ARRAY_SIZE(seg); i++) {
        wa_error err = WA_ERROR_INIT;
        wa_restore_plan *p = NULL;
        archive a;
        bad_segment = seg[i];
        bad_at = SEGMENT - 5000;
        archive_open(&a, NONE);
        bad_segment = 0;
        wa_restore_options o = {
            .kind = WA_TARGET_LATEST, .backup_label = LABEL_A, .read_wal_max = SEGMENT};
        assert_int_equal(plan(&a, o, &p, &err), WA_UNREACHABLE);
        wa_error_clear(&err);
        o.read_wal_max = 0; /* no place before the backup's end can be reached */
        assert_int_equal(plan(&a, o, &p, &err), WA_UNREACHABLE);
        assert_int_equal(strstr(err.hint, "--to-lsn") != NULL, seg[i] == BACKUP_A);
        archive_close(&a);
    }
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
        cmocka_unit_test(reading_ends_when_it_takes_long_and_the_plan_says_so),
        cmocka_unit_test(chunks_stand_in_for_a_damaged_object),
        cmocka_unit_test(damage_before_a_backup_is_told_and_no_reason_to_refuse),
        cmocka_unit_test(wal_that_cannot_be_parsed_does_not_count_as_read),
        cmocka_unit_test(what_was_archived_unchecked_can_be_accepted),
        cmocka_unit_test(the_unchecked_segment_that_the_wal_begins_in_is_looked_at),
        cmocka_unit_test(the_unchecked_segment_that_the_wal_begins_in_is_told_of_from_there_on),
        cmocka_unit_test(the_unchecked_segment_of_the_target_is_looked_at_up_to_it),
        cmocka_unit_test(a_target_within_unchecked_wal_is_not_offered_to_accept_it),
        cmocka_unit_test(unchecked_wal_at_the_end_of_the_archive_can_be_accepted),
        cmocka_unit_test(a_bad_record_that_began_in_an_unchecked_segment_can_be_accepted),
        cmocka_unit_test(unchecked_chunks_that_stand_in_can_be_accepted),
        cmocka_unit_test(zeroes_at_the_end_of_the_archive_are_no_damage),
        cmocka_unit_test(
            a_parents_damaged_segment_of_a_fork_is_not_needed_by_who_follows_the_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
