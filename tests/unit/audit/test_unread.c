/*
 * test_unread.c - what is looked for in unchecked WAL, where the archive changes meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "unread_internal.h"
#include "verify_fixture.h"

#define LAST 8u
#define CHUNKED 5u
#define MIDDLE (SEGMENT / 2)

static void
put_chunks(fixture *f)
{
    wa_lsn start = CHUNKED * (wa_lsn)SEGMENT;
    const uint8_t *bytes = wal_bytes(f->wal) + (CHUNKED - 1) * SEGMENT;
    OK(wa_tail_put(f->repo, &f->branch, 1, start, start, bytes, MIDDLE, NULL, false, &f->err));
    OK(wa_tail_put(f->repo, &f->branch, 1, start + MIDDLE, start + MIDDLE, bytes + MIDDLE,
                   SEGMENT - MIDDLE, NULL, false, &f->err));
}

static void
lose_second_chunk(fixture *f)
{
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    WA_CLEANUP(wa_strv_done) wa_strv keys = {0};
    OK(wa_tail_list(f->repo, &f->branch, CHUNKED, &chunks, &f->err));
    assert_int_equal(chunks.count, 2);
    wa_strv_add(&keys, chunks.items[1].key);
    OK(wa_store_delete(wa_repo_store(f->repo), &keys, &f->err));
}

static size_t
unread(fixture *f, const wa_coverage *c)
{
    wa_backups none = {.count = 0};
    WA_CLEANUP(wa_unread_done) wa_unread found = {0};
    OK(wa_unread_find(f->repo, c, &none, 0, &found, &f->err));
    return found.count;
}

/* Of a segment that was there in chunks one is gone when it is read: that its bytes end says
 * nothing of its records. */
static void
chunks_that_went_meanwhile_are_no_records_that_end(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *lineage = NULL;
    WA_CLEANUP(wa_coverage_done) wa_coverage c = {0};
    for (wa_segno s = 1; s <= LAST; s++)
        if (s != CHUNKED)
            put_segment(f, s, wal_bytes(f->wal) + (s - 1) * SEGMENT);
    put_chunks(f);
    OK(wa_lineage_load(f->repo, &lineage, &f->err));
    OK(wa_coverage_load(f->repo, lineage, 0, &c, &f->err));
    assert_int_equal(c.count, 1);
    assert_int_equal(unread(f, &c), 0);
    lose_second_chunk(f);
    assert_int_equal(unread(f, &c), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(chunks_that_went_meanwhile_are_no_records_that_end, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
