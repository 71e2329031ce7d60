/*
 * test_spool_release.c - spool files of a rejected branch go when the archive has their bytes, and
 * never before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "streamer_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGNO 3
#define START ((wa_lsn)SEGNO * SEGMENT)

typedef struct fixture {
    char dir[64];
    wa_store *fault; /* the repo's */
    wa_repo *repo;
    wa_streamer *s;
    wa_branch branch;
    wa_lineage *lineage; /* rejects the branch */
    uint8_t *bytes;      /* of a segment */
    wa_wal_facts *facts;
    wa_error err;
} fixture;

static int
setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    f->fault = wa_store_fault_new(wa_store_mem_new());
    begin_streamer(f->dir, f->fault, true, &f->repo, &f->s);
    wa_branch head = wa_branch_of(SYSTEM, 1, NULL, 0, NULL, 0);
    f->branch = wa_branch_of(SYSTEM, 2, "1\t0/300000\tx\n", 13, NULL, 0);
    f->lineage = wa_lineage_new();
    wa_lineage_append(f->lineage, &head, 0);
    wa_lineage_reject(f->lineage, &f->branch);
    f->bytes = wa_malloc(SEGMENT);
    for (size_t i = 0; i < SEGMENT; i++)
        f->bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    f->facts = wa_malloc(sizeof *f->facts);
    wa_wal_facts_init(f->facts);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    fixture *f = *state;
    wa_lineage_free(f->lineage);
    end_streamer(f->dir, f->repo, f->s);
    free(f->bytes);
    free(f->facts);
    free(f);
    return 0;
}

static void
spool(fixture *f, size_t len)
{
    OK(f, wa_spool_put(f->s->spool, &f->branch, SEGNO, f->bytes, len, &f->err));
}

static void
archive_whole(fixture *f)
{
    wa_put_outcome outcome;
    OK(f, wa_wal_put(f->repo, &f->branch, SEGNO, f->bytes, NULL, 1, f->facts, true, &outcome,
                     &f->err));
}

static void
archive_chunk(fixture *f, size_t len)
{
    OK(f,
       wa_tail_put(f->repo, &f->branch, 1, START, START, f->bytes, len, f->facts, true, &f->err));
}

/* Is the file there after it was looked at? */
static bool
stays(fixture *f)
{
    WA_CLEANUP(wa_freep) wa_spool_file *files = NULL;
    size_t count = 0;
    OK(f, wa_spool_list(f->s->spool, &files, &count, &f->err));
    assert_int_equal(count, 1);
    OK(f, wa_spool_release(f->s, f->lineage, &files[0], &f->err));
    wa_freep(&files);
    OK(f, wa_spool_list(f->s->spool, &files, &count, &f->err));
    return count == 1;
}

static void
a_segment_goes_when_the_archive_has_the_whole(void **state)
{
    fixture *f = *state;
    spool(f, SEGMENT);
    assert_true(stays(f));
    archive_whole(f);
    assert_false(stays(f));
    assert_int_equal(wa_spool_bytes(f->s->spool), 0);
}

static void
an_unfinished_segment_goes_when_whole_or_chunks_hold_all_of_it(void **state)
{
    fixture *f = *state;
    spool(f, 50000);
    archive_chunk(f, 49999);
    assert_true(stays(f));
    spool(f, 49999);
    assert_false(stays(f));
    spool(f, 60000);
    assert_true(stays(f));
    archive_whole(f);
    assert_false(stays(f));
}

static void
other_bytes_than_the_archives_stay(void **state)
{
    fixture *f = *state;
    archive_whole(f);
    f->bytes[40000] ^= 1;
    spool(f, SEGMENT);
    assert_true(stays(f));
    spool(f, 40001);
    assert_true(stays(f));
    spool(f, 40000);
    assert_false(stays(f));
}

static void
nothing_goes_when_the_archive_cannot_be_asked(void **state)
{
    fixture *f = *state;
    spool(f, SEGMENT);
    archive_whole(f);
    wa_store_fault_set(f->fault, "any", 1, 1000, WA_FAULT_FAIL);
    assert_true(stays(f));
    wa_store_fault_set(f->fault, "settle", 1, 0, WA_FAULT_FAIL); /* it is there, but may not last */
    assert_true(stays(f));
    assert_false(stays(f));
}

static void
branches_that_nobody_rejected_stay(void **state)
{
    fixture *f = *state;
    spool(f, SEGMENT);
    archive_whole(f);
    WA_CLEANUP(wa_lineage_freep) wa_lineage *rejects = WA_TAKE(f->lineage);
    wa_branch head = wa_branch_of(SYSTEM, 1, NULL, 0, NULL, 0);
    f->lineage = wa_lineage_new();
    wa_lineage_append(f->lineage, &head, 0);
    assert_true(stays(f));
    wa_lineage_free(f->lineage);
    f->lineage = WA_TAKE(rejects);
    assert_false(stays(f));
}

static void
a_reconciliation_looks_at_them(void **state)
{
    fixture *f = *state;
    spool(f, SEGMENT);
    archive_whole(f);
    f->s->lineage = wa_lineage_copy(f->lineage);
    OK(f, wa_reconcile(f->s, 5 * SEGMENT, &f->err));
    assert_int_equal(wa_spool_bytes(f->s->spool), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_segment_goes_when_the_archive_has_the_whole),
        TEST(an_unfinished_segment_goes_when_whole_or_chunks_hold_all_of_it),
        TEST(other_bytes_than_the_archives_stay),
        TEST(nothing_goes_when_the_archive_cannot_be_asked),
        TEST(branches_that_nobody_rejected_stay),
        TEST(a_reconciliation_looks_at_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
