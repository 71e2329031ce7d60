/*
 * tests/unit/restore/proof_fixture.h - one archive, damaged in every way, and what its plans say.
 *
 * Included behind cmocka.h.
 */
#ifndef WA_TESTS_PROOF_FIXTURE_H
#define WA_TESTS_PROOF_FIXTURE_H

#include "walagent/repo/index.h"
#include "walagent/repo/tail.h"
#include "walagent/restore/restore.h"
#include "walagent/store/drivers.h"
#include "walagent/store/mirror.h"

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
static inline void
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

static wa_store *mirror;     /* of the archive that is opened next, which takes it; NULL: none */
static wa_segno bad_segment; /* is archived with a bad byte at bad_at, unchecked */
static size_t bad_at;
static wa_segno bad_step; /* and so is every one that lies a multiple of it behind; 0: none */
static bool bad_unknown;  /* no record of it is known, as of one that is bad from its head on */
static wa_segno also_unchecked; /* and nothing is wrong with it */
static uint16_t magic;          /* of WAL pages that nobody can parse; 0: of 15 */

static inline wa_status
add_fact(void *arg, const wa_record *record, wa_error *err)
{
    (void)err;
    wa_wal_facts_add(arg, record);
    return WA_OK;
}

static inline bool
is_bad(wa_segno s)
{
    if (bad_segment == 0 || bad_step == 0)
        return s == bad_segment;
    return s >= bad_segment && (s - bad_segment) % bad_step == 0;
}

/* What the archive gets of a segment. */
static inline void
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
    if (is_bad(s))
        bytes[bad_at] ^= 1;
    if (s == bad_segment && bad_unknown) {
        wa_wal_facts_init(&facts);
        facts.overflow = true;
    }
    OK(wa_wal_put(a->repo, &a->branch, s, bytes, NULL, 1, &facts,
                  !is_bad(s) && s != also_unchecked && (!here || how != BAD_RECORD_KNOWN), &outcome,
                  &err));
    free(bytes);
}

/* In the main repository alone. */
static inline void
tear(archive *a, wa_segno s)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *key = wa_wal_key(a->repo, &a->branch, s);
    wa_body body = {.data = "half an object", .len = 14, .fd = -1};
    OK(wa_store_put(wa_store_member(a->store, 0), key, &body, NULL, WA_PUT_REPLACE, &err));
}

/* Behind walagent's back, when the index knows the segment. */
static inline void
damage_object(archive *a, damage how)
{
    wa_error err = WA_ERROR_INIT;
    char *key = wa_wal_key(a->repo, &a->branch, DAMAGED);
    const char *keys[] = {key};
    if (how == TORN) {
        tear(a, DAMAGED);
    } else if (how == GONE) {
        wa_strv gone = {0};
        wa_strv_add(&gone, keys[0]);
        OK(wa_store_delete(wa_store_member(a->store, 0), &gone, &err));
        wa_strv_done(&gone);
    }
    free(key);
}

static inline void
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

static inline void
archive_open(archive *a, damage how)
{
    wa_error err = WA_ERROR_INIT;
    bool created = false;
    wa_cluster identity = {.system_identifier = SYSTEM_ID, .major = 15, .segment_size = SEGMENT};
    *a = (archive){.store = wa_store_mem_new()};
    bool mirrored = mirror != NULL;
    if (mirrored)
        a->store = wa_store_mirror_new(a->store, &(wa_mirror){WA_TAKE(mirror), "far"}, 1);
    OK(wa_repo_of_store(a->store, "main", 1, &a->repo, &err));
    if (mirrored)
        wa_repo_only_read(a->repo, false); /* as the command does */
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

static inline void
archive_close(archive *a)
{
    wal_builder_free(a->wal);
    wa_repo_free(a->repo);
}

static inline wa_status
plan(const archive *a, wa_restore_options o, wa_restore_plan **ret, wa_error *err)
{
    o.repo = a->repo;
    o.directory = "/nonexistent";
    return wa_restore_plan_make(&o, ret, err);
}

static inline void
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
static inline void
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

static inline wa_restore_options
at_time(wa_segno s)
{
    return (wa_restore_options){.kind = WA_TARGET_TIME, .time = T0 + (wa_time)s * MINUTE + 500};
}

#endif
