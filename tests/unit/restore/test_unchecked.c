/*
 * Tests of restores over WAL that was archived though its records could not be followed: what of
 * it is looked at, and what accepting it lets past.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "proof_fixture.h"

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

/* What has to be looked for in such WAL, the server can be left to find. */
static void
is_left_to_the_server(const archive *a, wa_restore_options o)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
    wa_status refused = o.kind == WA_TARGET_XID ? WA_CORRUPT : WA_UNREACHABLE;
    assert_int_equal(plan(a, o, &p, &err), refused);
    assert_non_null(strstr(err.message, "000000010000000000000005"));
    assert_non_null(strstr(err.hint, "--to-lsn"));
    assert_non_null(strstr(err.hint, LABEL_B));
    assert_non_null(strstr(err.hint, "--accept-unchecked-wal lets it try"));
    wa_error_clear(&err);
    o.accept_unchecked_wal = true;
    OK(plan(a, o, &p, &err));
    assert_true(p->has_target && p->target_by_server && p->target_inclusive && !p->wal_read);
    assert_true(p->target_lsn == (o.kind == WA_TARGET_LSN ? o.lsn : 0));
    assert_string_equal(p->backup->label, LABEL_A);
    const char *warned = strstr(p->text, "is accepted as asked");
    assert_non_null(warned);
    assert_null(strstr(warned + 1, "is accepted as asked"));
    assert_non_null(strstr(p->text, "the server has to find it"));
}

static void
a_target_within_unchecked_wal_is_left_to_the_server_when_it_is_accepted(void **state)
{
    (void)state;
    for (int much = 0; much < 2; much++) {
        uint64_t most = much ? SEGMENT : 0;
        wa_restore_options time = at_time(DAMAGED);
        time.read_wal_max = most;
        archive a;
        archive_open(&a, BAD_RECORD_KNOWN);
        is_left_to_the_server(&a, time);
        is_left_to_the_server(&a, (wa_restore_options){.kind = WA_TARGET_LSN,
                                                       .lsn = a.middle[DAMAGED],
                                                       .read_wal_max = most});
        is_left_to_the_server(&a, (wa_restore_options){.kind = WA_TARGET_XID,
                                                       .xid = 1001 + 2 * DAMAGED,
                                                       .read_wal_max = most});
        archive_close(&a);
    }
}

/* Nobody gets past it. */
static void
a_target_within_damaged_wal_is_not_left_to_the_server(void **state)
{
    (void)state;
    for (damage how = TORN; how <= BAD_RECORD; how++) {
        wa_error err = WA_ERROR_INIT;
        wa_restore_plan *p = NULL;
        archive a;
        archive_open(&a, how);
        wa_restore_options o = at_time(DAMAGED);
        o.accept_unchecked_wal = true;
        assert_int_equal(plan(&a, o, &p, &err), WA_UNREACHABLE);
        assert_null(strstr(err.hint, "--accept-unchecked-wal"));
        archive_close(&a);
    }
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
    wa_restore_options o = {.kind = WA_TARGET_LATEST, .backup_label = LABEL_A};
    is_let_past(&a, o, "000000010000000000000005");
    o.read_wal_max = SEGMENT; /* only the unchecked one is looked at */
    is_let_past(&a, o, "000000010000000000000005");
    archive_close(&a);
}

/* As archive-push stores it: it looks for no record behind a bad one that leads into the segment.
 */
static void
a_bad_record_that_leads_into_a_segment_of_which_nothing_is_known_is_met(void **state)
{
    (void)state;
    archive a;
    crossing = DAMAGED - 1;
    bad_segment = DAMAGED;
    bad_at = 60;
    bad_unknown = true;
    archive_open(&a, NONE);
    crossing = bad_segment = 0;
    bad_unknown = false;
    wa_restore_options o = {.kind = WA_TARGET_LATEST, .backup_label = LABEL_A};
    is_let_past(&a, o, "000000010000000000000005");
    o.read_wal_max = SEGMENT;
    is_let_past(&a, o, "000000010000000000000005");
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
    char time[WA_TIME_TEXT];
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
    wa_time_format(T0 + 2 * MINUTE + 1000, time); /* in the segment between the two */
    assert_non_null(strstr(err.hint, time));
    archive_close(&a);
}

/* Nobody reads an object that is damaged: the option makes no difference. */
static void
accepting_does_not_help(const archive *a, wa_restore_options o, const char *segment)
{
    wa_error before = WA_ERROR_INIT, err = WA_ERROR_INIT;
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
    wa_status refused = plan(a, o, &p, &before);
    assert_true(refused == WA_CORRUPT || refused == WA_UNREACHABLE);
    assert_non_null(strstr(before.message, segment));
    o.accept_unchecked_wal = true;
    assert_int_equal(plan(a, o, &p, &err), refused);
    assert_non_null(strstr(err.message, segment));
}

static void
a_damaged_object_where_the_recovery_ends_is_not_accepted(void **state)
{
    (void)state;
    for (int much = 0; much < 2; much++) {
        uint64_t most = much ? SEGMENT / 2 : 0;
        archive a;
        archive_open(&a, NONE);
        tear(&a, LAST);
        tear(&a, BACKUP_A);
        accepting_does_not_help(
            &a, (wa_restore_options){.kind = WA_TARGET_LATEST, .read_wal_max = most},
            "000000010000000000000014");
        accepting_does_not_help(&a,
                                (wa_restore_options){.kind = WA_TARGET_CONSISTENT,
                                                     .backup_label = LABEL_A,
                                                     .read_wal_max = most},
                                "000000010000000000000002");
        archive_close(&a);
    }
}

/* Unchecked WAL before it is accepted, and leaves nothing to the server that it could find. */
static void
a_target_within_a_damaged_object_behind_unchecked_wal_is_refused(void **state)
{
    (void)state;
    const wa_restore_options targets[] = {
        at_time(DAMAGED),
        {.kind = WA_TARGET_XID, .xid = 1001 + 2 * DAMAGED},
        {.kind = WA_TARGET_LSN, .lsn = DAMAGED * SEGMENT + SEGMENT / 2},
    };
    for (size_t i = 0; i < 2 * WA_ARRAY_SIZE(targets); i++) {
        wa_error err = WA_ERROR_INIT;
        WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
        wa_restore_options o = targets[i / 2];
        archive a;
        bad_segment = 3;
        bad_at = SEGMENT / 2;
        archive_open(&a, TORN);
        bad_segment = 0;
        o.accept_unchecked_wal = true;
        o.read_wal_max = i % 2 == 0 ? SEGMENT : 0;
        wa_status status = plan(&a, o, &p, &err);
        assert_true(status == WA_CORRUPT || status == WA_UNREACHABLE);
        assert_non_null(strstr(err.message, "000000010000000000000005"));
        archive_close(&a);
    }
}

static size_t
count_of(const char *text, const char *part)
{
    size_t count = 0;
    for (; (text = strstr(text, part)) != NULL; text += strlen(part))
        count++;
    return count;
}

/* However many there are, the plan ends with what was not read. */
static void
of_many_accepted_segments_the_first_are_named_and_the_rest_counted(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_restore_plan_freep) wa_restore_plan *p = NULL;
    archive a;
    bad_segment = 4;
    bad_step = 2;
    bad_at = SEGMENT / 2;
    archive_open(&a, NONE);
    bad_segment = bad_step = 0;
    OK(plan(&a,
            (wa_restore_options){.kind = WA_TARGET_LATEST,
                                 .backup_label = LABEL_A,
                                 .read_wal_max = SEGMENT,
                                 .accept_unchecked_wal = true},
            &p, &err));
    assert_int_equal(count_of(p->text, "is accepted as asked"), 8);
    assert_non_null(strstr(p->text, "\"000000010000000000000012\""));
    assert_non_null(strstr(p->text, "the same is true of 1 more WAL segment"));
    assert_non_null(strstr(p->text, "of WAL were not read beforehand"));
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_within_unchecked_wal_is_left_to_the_server_when_it_is_accepted),
        cmocka_unit_test(a_target_within_damaged_wal_is_not_left_to_the_server),
        cmocka_unit_test(a_damaged_object_where_the_recovery_ends_is_not_accepted),
        cmocka_unit_test(a_target_within_a_damaged_object_behind_unchecked_wal_is_refused),
        cmocka_unit_test(of_many_accepted_segments_the_first_are_named_and_the_rest_counted),
        cmocka_unit_test(unchecked_wal_at_the_end_of_the_archive_can_be_accepted),
        cmocka_unit_test(a_bad_record_that_began_in_an_unchecked_segment_can_be_accepted),
        cmocka_unit_test(a_bad_record_that_leads_into_a_segment_of_which_nothing_is_known_is_met),
        cmocka_unit_test(unchecked_chunks_that_stand_in_can_be_accepted),
        cmocka_unit_test(the_unchecked_segment_of_the_target_is_looked_at_up_to_it),
        cmocka_unit_test(the_unchecked_segment_that_the_wal_begins_in_is_told_of_from_there_on),
        cmocka_unit_test(what_was_archived_unchecked_can_be_accepted),
        cmocka_unit_test(the_unchecked_segment_that_the_wal_begins_in_is_looked_at),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
