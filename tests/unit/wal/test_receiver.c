/*
 * test_receiver.c - what a connection makes of the messages it gets: facts of segments that it
 * begins in the middle of a record. Without a server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "receiver_internal.h"
#include "streamer_fixture.h"
#include "wal_builder.h"

#include "walagent/repo/resolution.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct fixture {
    char dir[64];
    wa_repo *repo;
    wa_streamer *s;
    wal_builder *wal; /* from segment 1 on */
    wa_receiver rx;
    bool connected;
    wa_error err;
} fixture;

static int
setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    begin_streamer(f->dir, wa_store_mem_new(), true, &f->repo, &f->s);
    f->wal = wal_builder_new(NULL);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    fixture *f = *state;
    if (f->connected)
        wa_receiver_done(&f->rx);
    end_streamer(f->dir, f->repo, f->s);
    wal_builder_free(f->wal);
    free(f);
    return 0;
}

/* Nothing is archived or received behind `at`, a segment's start. */
static void
begin_flow(fixture *f, wa_lsn at)
{
    WA_CLEANUP(wa_freep) wa_flow *flow = wa_malloc(sizeof *flow);
    wa_flow_init(flow);
    flow->branch = wa_branch_of(SYSTEM, 1, NULL, 0, NULL, 0);
    flow->epoch = 1;
    flow->received = flow->checked = flow->durable = flow->handed = at;
    flow->tail_in_spool = true;
    wa_flow_install(f->s, flow);
}

/* A new connection, at the start of the segment that is not handed over yet. */
static void
reconnect(fixture *f)
{
    static const wa_tli chain[] = {1};
    if (f->connected)
        wa_receiver_done(&f->rx);
    wa_spool_end(f->s->spool);
    wa_receiver_init(&f->rx, f->s, NULL);
    f->connected = true;
    f->rx.tli = 1;
    wa_receiver_begin(&f->rx, chain, 1, f->s->flow.handed);
}

static wa_status
take(fixture *f, wa_lsn upto)
{
    wa_error_clear(&f->err);
    while (f->rx.position < upto) {
        wa_lsn at = f->rx.position;
        wa_stream_message message = {.kind = WA_MSG_WAL,
                                     .start = at,
                                     .data = wal_bytes(f->wal) + (at - SEGMENT),
                                     .len = upto - at < 50000 ? (size_t)(upto - at) : 50000};
        WA_TRY(wa_receiver_take(&f->rx, &message, &f->err));
    }
    return WA_OK;
}

/* A commit begins in segment 1 and ends in segment 2, where one more follows. */
static void
build_crossing(fixture *f)
{
    wa_lsn last = 0;
    wal_fill_until(f->wal, 2 * SEGMENT - 3000);
    while (wal_position(f->wal) < 2 * SEGMENT)
        last = wal_add_commit(f->wal, 700, 1000);
    assert_true(last < 2 * SEGMENT && wal_position(f->wal) > 2 * SEGMENT);
    wal_add_commit(f->wal, 701, 2000);
    wal_add_noise(f->wal, 702, 30000);
}

static void
a_commit_counts_in_the_segment_where_it_ends(void **state)
{
    fixture *f = *state;
    build_crossing(f);
    begin_flow(f, SEGMENT);
    reconnect(f);
    OK(f, take(f, wal_position(f->wal)));
    assert_int_equal(f->s->flow.segment.commits, 2);
    assert_int_equal(f->s->flow.segment.min_time, 1000);
    assert_false(f->s->flow.segment.overflow);
    assert_false(f->s->flow.jobs->facts.overflow); /* segment 1 begins with a record */
}

static void
a_reconnect_keeps_what_was_counted_before(void **state)
{
    fixture *f = *state;
    build_crossing(f);
    wa_lsn before = wal_position(f->wal);
    wal_add_commit(f->wal, 703, 3000);
    wal_fill_segment(f->wal);
    begin_flow(f, SEGMENT);
    reconnect(f);
    OK(f, take(f, before));
    reconnect(f); /* at segment 2, in the middle of the first commit */
    assert_int_equal(f->rx.position, 2 * SEGMENT);
    OK(f, take(f, 3 * SEGMENT));
    const wa_segment_job *job = f->s->flow.jobs->next;
    assert_int_equal(job->segno, 2);
    assert_int_equal(job->facts.commits, 3);
    assert_int_equal(job->facts.min_time, 1000);
    assert_int_equal(job->facts.max_time, 3000);
    assert_false(job->facts.overflow);
    assert_int_equal(job->rest.commits, 3);
}

static void
facts_say_when_a_connection_begins_in_the_middle_of_a_record(void **state)
{
    fixture *f = *state;
    build_crossing(f);
    begin_flow(f, 2 * SEGMENT);
    reconnect(f);
    OK(f, take(f, wal_position(f->wal)));
    assert_int_equal(f->s->flow.segment.commits, 1);
    assert_true(f->s->flow.segment.overflow); /* whole segment */
    assert_true(f->s->flow.rest.overflow);    /* next chunk */
    reconnect(f);
    OK(f, take(f, wal_position(f->wal)));
    assert_true(f->s->flow.segment.overflow);
}

/* As on a child of which nothing before the fork could be fetched: the server shows it. */
static void
records_before_the_durable_position_count_when_nobody_counted_them(void **state)
{
    fixture *f = *state;
    wal_add_commit(f->wal, 700, 1000);
    wa_lsn fork = wal_position(f->wal);
    wal_add_commit(f->wal, 701, 2000);
    begin_flow(f, SEGMENT);
    f->s->flow.received = f->s->flow.checked = f->s->flow.durable = fork;
    reconnect(f);
    OK(f, take(f, wal_position(f->wal)));
    assert_int_equal(f->s->flow.segment.commits, 2);
    assert_int_equal(f->s->flow.rest.commits, 1);
    assert_false(f->s->flow.segment.overflow);
}

/* The segment before is shown again, to prove that the server has what is archived. */
static void
a_conflict_with_what_is_archived_that_a_person_settled_is_none(void **state)
{
    fixture *f = *state;
    bool created = false;
    char name[] = "000000010000000000000001", key[] = "quarantine/...";
    wal_fill_segment(f->wal);
    wal_add_commit(f->wal, 700, 1000);
    wa_quarantined kept = {
        .branch = wa_branch_of(SYSTEM, 1, NULL, 0, NULL, 0), .name = name, .key = key};
    wa_xxh_of(wal_bytes(f->wal), SEGMENT, kept.xxh3);
    static const wa_tli chain[] = {1};
    begin_flow(f, 2 * SEGMENT);
    f->s->last_segno = 1;
    memset(f->s->last_xxh3, '0', WA_XXH_HEX - 1);
    reconnect(f);
    wa_receiver_begin(&f->rx, chain, 1, SEGMENT);
    OK(f, wa_resolution_put(f->repo, &kept, WA_KEEP_ARCHIVED, &created, &f->err));
    OK(f, take(f, wal_position(f->wal)));
    assert_int_equal(f->s->flow.segment.commits, 1);
}

static void
facts_say_when_records_were_damaged(void **state)
{
    fixture *f = *state;
    wal_add_commit(f->wal, 700, 1000);
    wa_lsn damaged = wal_add_commit(f->wal, 701, 2000);
    wal_fill_until(f->wal, SEGMENT + 20000);
    wal_bytes_mutable(f->wal)[damaged - SEGMENT + 26] ^= 1;
    begin_flow(f, SEGMENT);
    reconnect(f);
    assert_int_equal(take(f, wal_position(f->wal)), WA_CORRUPT);
    reconnect(f);
    OK(f, take(f, wal_position(f->wal)));
    assert_true(f->s->flow.segment.overflow);
    assert_true(f->s->flow.rest.overflow);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_commit_counts_in_the_segment_where_it_ends),
        TEST(a_reconnect_keeps_what_was_counted_before),
        TEST(facts_say_when_a_connection_begins_in_the_middle_of_a_record),
        TEST(records_before_the_durable_position_count_when_nobody_counted_them),
        TEST(a_conflict_with_what_is_archived_that_a_person_settled_is_none),
        TEST(facts_say_when_records_were_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
