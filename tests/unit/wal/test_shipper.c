/*
 * test_shipper.c - the tail and the segments thread against a store in memory, without a server.
 * Bytes are put into the spool and published as the receiver does it; the flow is synchronous, so
 * chunks are cut at once and nothing waits for an interval.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "streamer_fixture.h"
#include "wal_builder.h"
#include "wall_clock.h"

#include "walagent/repo/resolution.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#define DEADLINE_MS 20000

/* Waits for the streamer's threads while the condition holds, at most until the deadline. Nothing
 * is asserted under the lock: a test that fails would keep it, and its teardown wait for ever. */
#define WAIT_WHILE(f, condition)                                                                   \
    do {                                                                                           \
        wa_mono wait_until_ = wa_mono_now() + DEADLINE_MS;                                         \
        bool still_ = true;                                                                        \
        while (still_ && wa_mono_left(wait_until_) > 0) {                                          \
            WA_LOCK(&(f)->s->mutex);                                                               \
            if ((still_ = (condition))) /* not every change is signalled */                        \
                (void)wa_cond_wait_until(&(f)->s->cond, &(f)->s->mutex, wa_mono_now() + 10);       \
        }                                                                                          \
        if (still_)                                                                                \
            fail_msg("still, after %d ms: %s", DEADLINE_MS, #condition);                           \
    } while (0)

typedef struct fixture {
    char dir[64];
    wa_store *fault; /* the repo's */
    wa_repo *repo;
    wa_streamer *s;
    wa_branch branch;
    wal_builder *wal;
    pthread_t tail, segments;
    wa_error err;
} fixture;

static int
setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    f->fault = wa_store_fault_new(wa_store_mem_new());
    begin_streamer(f->dir, f->fault, true, &f->repo, &f->s);
    f->s->status.synchronous = true;
    f->branch = wa_branch_of(SYSTEM, 1, NULL, 0, NULL, 0);
    f->wal = wal_builder_new(NULL);
    wa_flow *flow = wa_malloc(sizeof *flow);
    wa_flow_init(flow);
    flow->branch = f->branch;
    flow->epoch = 1;
    flow->received = flow->checked = flow->durable = flow->handed = SEGMENT;
    flow->tail_in_spool = true;
    wa_flow_install(f->s, flow);
    free(flow);
    uint64_t size;
    OK(f, wa_spool_begin(f->s->spool, &f->branch, 1, &size, &f->err));
    OK(f, wa_thread_start(&f->tail, "tail", wa_tail_thread, f->s, &f->err));
    OK(f, wa_thread_start(&f->segments, "segments", wa_segments_thread, f->s, &f->err));
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    fixture *f = *state;
    wa_cancel_trigger(&f->s->stop);
    {
        WA_LOCK(&f->s->mutex);
        wa_cond_broadcast(&f->s->cond);
    }
    wa_thread_join(f->tail);
    wa_thread_join(f->segments);
    end_streamer(f->dir, f->repo, f->s);
    wal_builder_free(f->wal);
    free(f);
    return 0;
}

/* What the builder has more than was spooled, published like a message. */
static wa_lsn
receive(fixture *f)
{
    wa_lsn from = f->s->flow.received, to = wal_position(f->wal);
    wa_segno segno = wa_segno_of(from, SEGMENT);
    size_t len = (size_t)(to - from);
    OK(f, wa_spool_append(f->s->spool, from % SEGMENT, wal_bytes(f->wal) + (from - SEGMENT), len,
                          &f->err));
    WA_LOCK(&f->s->mutex);
    f->s->flow.received = f->s->flow.checked = to;
    if (to == (segno + 1) * SEGMENT) {
        wa_segment_job *job = wa_calloc(1, sizeof *job);
        job->segno = segno;
        job->checked = job->parsed = true;
        wa_wal_facts_init(&job->facts);
        wa_wal_facts_init(&job->rest);
        f->s->flow.handed = to;
        wa_flow_add_job_locked(f->s, job);
    }
    wa_cond_broadcast(&f->s->cond);
    return to;
}

static void
wait_durable(fixture *f, wa_lsn lsn)
{
    OK(f, wa_streamer_wait_durable(f->s, lsn, DEADLINE_MS, &f->err));
}

static void
wait_fault(fixture *f)
{
    WAIT_WHILE(f, f->s->fault.status == WA_OK);
}

static void
assert_tail_is(fixture *f, wa_segno segno, wa_lsn end)
{
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(SEGMENT);
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    wa_lsn is = 0;
    OK(f, wa_tail_assemble(f->repo, &f->branch, segno, bytes, &is, facts, &f->err));
    assert_int_equal(is, end);
    assert_memory_equal(bytes, wal_bytes(f->wal) + (segno - 1) * SEGMENT, end - segno * SEGMENT);
}

static void
chunks_follow_each_other_and_some_are_cumulative(void **state)
{
    fixture *f = *state;
    wa_lsn end = 0;
    for (unsigned i = 0; i < 70; i++) {
        wal_add_noise(f->wal, 700 + i, 3000);
        end = receive(f);
        wait_durable(f, end);
    }
    assert_tail_is(f, 1, end);
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    OK(f, wa_tail_list(f->repo, &f->branch, 1, &chunks, &f->err));
    assert_int_equal(chunks.count, 70);
    WA_CLEANUP(wa_buf_done) wa_buf bytes = WA_BUF_INIT(SEGMENT);
    wa_wal_info info;
    OK(f, wa_tail_get(f->repo, &f->branch, 1, &chunks.items[32], &bytes, &info, NULL, &f->err));
    assert_int_equal(info.base, SEGMENT);
    assert_int_equal(bytes.len, info.end - SEGMENT);
    OK(f, wa_tail_get(f->repo, &f->branch, 1, &chunks.items[33], &bytes, &info, NULL, &f->err));
    assert_int_equal(info.base, info.start);
}

/* No more chunks. */
static void
leave_the_rest_to_the_whole(fixture *f)
{
    WA_LOCK(&f->s->mutex);
    f->s->status.synchronous = false;
    f->s->options.tail_interval_ms = 1000000;
}

/* Each chunk by itself, without what is before it. */
static wa_wal_info
assert_part(fixture *f, const wa_chunk *chunk, bool facts)
{
    WA_CLEANUP(wa_buf_done) wa_buf bytes = WA_BUF_INIT(SEGMENT);
    WA_CLEANUP(wa_freep) wa_wal_facts *its = wa_malloc(sizeof *its);
    wa_wal_info info;
    OK(f, wa_tail_get(f->repo, &f->branch, 1, chunk, &bytes, &info, its, &f->err));
    assert_int_equal(bytes.len, info.end - info.base);
    assert_memory_equal(bytes.data, wal_bytes(f->wal) + (info.base - SEGMENT), bytes.len);
    assert_int_equal(its->overflow, !facts);
    return info;
}

static void
more_than_a_chunk_may_hold_goes_into_several(void **state)
{
    enum { MOST = 10000 };
    fixture *f = *state;
    {
        WA_LOCK(&f->s->mutex);
        f->s->chunk_most = MOST;
    }
    for (unsigned i = 0; i < 130; i++)
        wal_add_noise(f->wal, 700 + i, 3000);
    wa_lsn end = receive(f), at = SEGMENT;
    wait_durable(f, end);
    assert_tail_is(f, 1, end);
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    OK(f, wa_tail_list(f->repo, &f->branch, 1, &chunks, &f->err));
    assert_int_equal(chunks.count, (end - SEGMENT + MOST - 1) / MOST);
    assert_true(chunks.count > 33);
    for (size_t i = 0; i < chunks.count; i++) {
        wa_wal_info info = assert_part(f, &chunks.items[i], i + 1 == chunks.count);
        assert_int_equal(info.start, at);
        assert_int_equal(info.base, i % 32 == 0 ? SEGMENT : at);
        assert_in_range(info.end - info.start, 1, MOST);
        at = info.end;
    }
    assert_int_equal(at, end);
}

static void
a_lost_reply_is_recognised_as_our_own_chunk(void **state)
{
    fixture *f = *state;
    for (unsigned i = 0; i < 3; i++) {
        wa_store_fault_set(f->fault, "put", 1, 0, WA_FAULT_LOSE_REPLY);
        wal_add_noise(f->wal, 700 + i, 3000);
        wait_durable(f, receive(f));
    }
    assert_int_equal(f->s->status.conflicts, 0);
    assert_tail_is(f, 1, wal_position(f->wal));
}

static void
failed_puts_are_tried_again_until_they_succeed(void **state)
{
    fixture *f = *state;
    wa_store_fault_set(f->fault, "put", 1, 2, WA_FAULT_FAIL);
    wal_add_noise(f->wal, 700, 3000);
    wait_durable(f, receive(f));
    assert_int_equal(wa_store_fault_hits(f->fault), 3);
    assert_tail_is(f, 1, wal_position(f->wal));
}

/* Somebody's chunk of our epoch at our next position. */
static void
put_winner(fixture *f, const void *data, size_t len)
{
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    wa_wal_facts_init(facts);
    OK(f, wa_tail_put(f->repo, &f->branch, 1, SEGMENT, SEGMENT, data, len, facts, true, &f->err));
}

static void
equal_bytes_of_another_are_history_up_to_the_shorter_end(void **state)
{
    fixture *f = *state;
    wal_add_noise(f->wal, 700, 3000);
    size_t shorter = wal_size(f->wal);
    put_winner(f, wal_bytes(f->wal), shorter);
    wal_add_noise(f->wal, 701, 3000);
    wa_lsn end = receive(f);
    wait_durable(f, end);
    assert_tail_is(f, 1, end);
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    OK(f, wa_tail_list(f->repo, &f->branch, 1, &chunks, &f->err));
    assert_int_equal(chunks.count, 2);
    assert_int_equal(chunks.items[1].start, SEGMENT + shorter);
}

static void
other_bytes_are_a_contradiction_and_nothing_more_is_durable(void **state)
{
    fixture *f = *state;
    wal_add_noise(f->wal, 700, 3000);
    WA_CLEANUP(wa_freep) uint8_t *other = wa_memdup(wal_bytes(f->wal), wal_size(f->wal));
    other[2000] ^= 1;
    put_winner(f, other, wal_size(f->wal));
    receive(f);
    wait_fault(f);
    assert_int_equal(f->s->fault.status, WA_FAILED);
    assert_false(f->s->fenced);
    assert_int_equal(f->s->flow.durable, SEGMENT);
    assert_int_equal(f->s->status.conflicts, 1);
}

static void
a_seal_fences_chunks(void **state)
{
    fixture *f = *state;
    wal_add_noise(f->wal, 700, 3000);
    wa_lsn end = receive(f);
    wait_durable(f, end);
    OK(f, wa_tail_put_seal(f->repo, &f->branch, 1, end, &f->err));
    wal_add_noise(f->wal, 701, 3000);
    receive(f);
    wait_fault(f);
    assert_true(f->s->fenced);
    assert_int_equal(f->s->flow.durable, end);
}

static void
a_seal_fences_whole_segments(void **state)
{
    fixture *f = *state;
    wa_segno last = 0;
    wal_add_noise(f->wal, 700, 3000);
    wa_lsn end = receive(f);
    wait_durable(f, end);
    OK(f, wa_tail_put_seal(f->repo, &f->branch, 1, end, &f->err));
    wal_fill_segment(f->wal);
    leave_the_rest_to_the_whole(f);
    receive(f);
    wait_fault(f);
    assert_true(f->s->fenced);
    assert_int_equal(wa_wal_last(f->repo, &f->branch, &last, &f->err), WA_NOT_FOUND);
}

typedef struct meanwhile {
    fixture *f;
    wa_lsn seal;       /* 0: none */
    const void *whole; /* of segment 1; NULL: none */
} meanwhile;

static void
another_writer(void *arg)
{
    meanwhile *m = arg;
    wa_put_outcome outcome;
    wa_error err = WA_ERROR_INIT;
    if (m->seal != 0 && wa_tail_put_seal(m->f->repo, &m->f->branch, 1, m->seal, &err) != WA_OK)
        fail_msg("%s", err.message);
    if (m->whole != NULL && wa_wal_put(m->f->repo, &m->f->branch, 1, m->whole, NULL, 1, NULL, true,
                                       &outcome, &err) != WA_OK)
        fail_msg("%s", err.message);
}

/* Between the look for a seal and the whole segment. */
static void
a_seal_that_comes_while_a_whole_segment_is_put_keeps_it_from_being_acknowledged(void **state)
{
    fixture *f = *state;
    wa_segno last = 0;
    wal_add_noise(f->wal, 700, 3000);
    wa_lsn end = receive(f);
    wait_durable(f, end);
    meanwhile m = {.f = f, .seal = end};
    wa_store_fault_before(f->fault, "put", 1, another_writer, &m);
    wal_fill_segment(f->wal);
    leave_the_rest_to_the_whole(f);
    receive(f);
    wait_fault(f);
    assert_true(f->s->fenced);
    assert_int_equal(f->s->flow.durable, end);
    OK(f, wa_wal_last(f->repo, &f->branch, &last, &f->err)); /* durable, but nobody's promise */
    assert_int_equal(last, 1);
}

/* The other side: the whole segment came, and was acknowledged, before the seal was there. */
static void
a_seal_goes_behind_a_whole_segment_that_came_meanwhile(void **state)
{
    fixture *f = *state;
    wa_lsn sealed = 0;
    wal_add_noise(f->wal, 700, 3000);
    wa_lsn tip = receive(f);
    wait_durable(f, tip);
    wal_fill_segment(f->wal);
    meanwhile m = {.f = f, .whole = wal_bytes(f->wal)};
    wa_store_fault_before(f->fault, "put", 1, another_writer, &m);
    OK(f, wa_tip_seal(f->repo, &f->branch, 1, tip, &sealed, &f->err));
    assert_int_equal(sealed, 2 * SEGMENT);
    for (wa_segno segno = 1; segno <= 2; segno++) {
        WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
        OK(f, wa_tail_list(f->repo, &f->branch, segno, &chunks, &f->err));
        assert_true(chunks.count > 0);
        assert_int_equal(chunks.items[chunks.count - 1].start, segno == 1 ? tip : sealed);
    }
    OK(f, wa_tip_seal(f->repo, &f->branch, 1, tip, &sealed, &f->err)); /* again does no harm */
    assert_int_equal(sealed, 2 * SEGMENT);
}

/* Somebody else's segment 1, and what we have of it. */
static void
meet_other_whole(fixture *f, bool settled)
{
    wa_put_outcome outcome;
    bool created = false;
    char name[] = "000000010000000000000001", key[] = "quarantine/...";
    wal_fill_segment(f->wal);
    WA_CLEANUP(wa_freep) uint8_t *other = wa_memdup(wal_bytes(f->wal), SEGMENT);
    other[SEGMENT / 2] ^= 1;
    OK(f, wa_wal_put(f->repo, &f->branch, 1, other, NULL, 0, NULL, true, &outcome, &f->err));
    wa_quarantined kept = {.branch = f->branch, .name = name, .key = key};
    wa_xxh_of(wal_bytes(f->wal), SEGMENT, kept.xxh3);
    if (settled)
        OK(f, wa_resolution_put(f->repo, &kept, WA_KEEP_ARCHIVED, &created, &f->err));
    leave_the_rest_to_the_whole(f);
    receive(f);
}

static void
a_segment_with_other_content_stops_archiving(void **state)
{
    fixture *f = *state;
    meet_other_whole(f, false);
    wait_fault(f);
    assert_false(f->s->fenced);
    assert_int_equal(f->s->status.conflicts, 1);
    assert_int_equal(f->s->flow.durable, SEGMENT);
}

/* Somebody's whole segment, before the first chunk of it. */
static void
put_whole(fixture *f, const uint8_t *bytes)
{
    wa_put_outcome outcome;
    WA_CLEANUP(wa_freep) uint8_t *whole = wa_calloc(1, SEGMENT);
    memcpy(whole, bytes, wal_size(f->wal));
    OK(f, wa_wal_put(f->repo, &f->branch, 1, whole, NULL, 1, NULL, true, &outcome, &f->err));
}

static void
a_whole_segment_with_our_bytes_stands_for_a_chunk(void **state)
{
    fixture *f = *state;
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    wal_add_noise(f->wal, 700, 3000);
    put_whole(f, wal_bytes(f->wal));
    wa_store_fault_set(f->fault, "settle", 1, 0, WA_FAULT_FAIL); /* it lasts at the second try */
    wait_durable(f, receive(f));
    assert_int_equal(wa_store_fault_hits(f->fault), 1);
    OK(f, wa_tail_list(f->repo, &f->branch, 1, &chunks, &f->err));
    assert_int_equal(chunks.count, 0);
    assert_int_equal(f->s->status.conflicts, 0);
}

static void
a_whole_segment_with_other_bytes_stands_for_nothing(void **state)
{
    fixture *f = *state;
    wal_add_noise(f->wal, 700, 3000);
    size_t len = wal_size(f->wal);
    WA_CLEANUP(wa_freep) uint8_t *other = wa_memdup(wal_bytes(f->wal), len);
    other[len - 1] ^= 1;
    put_whole(f, other);
    receive(f);
    wait_fault(f);
    assert_false(f->s->fenced);
    assert_int_equal(f->s->status.conflicts, 1);
    assert_int_equal(f->s->flow.durable, SEGMENT);
}

static void
a_segment_whose_conflict_was_settled_stops_nothing(void **state)
{
    fixture *f = *state;
    meet_other_whole(f, true);
    wait_durable(f, 2 * SEGMENT);
    assert_int_equal(f->s->status.conflicts, 0);
}

static void
a_drain_does_not_wait_for_a_branch_that_has_no_name(void **state)
{
    fixture *f = *state;
    {
        WA_LOCK(&f->s->mutex);
        f->s->flow.branch = (wa_branch){.tli = 2};
        f->s->flow.received += 100;
    }
    assert_int_equal(wa_flow_drain(f->s, &f->s->stop, &f->err), WA_FAILED);
    assert_non_null(strstr(f->err.message, "timeline 2 ended before its first record"));
}

static void
a_whole_segment_replaces_its_spool_file_and_is_known(void **state)
{
    fixture *f = *state;
    char xxh3[WA_XXH_HEX], is[WA_XXH_HEX];
    wa_branch branch;
    wal_fill_segment(f->wal);
    wait_durable(f, receive(f));
    WAIT_WHILE(f, f->s->flow.job_count > 0 || f->s->job_running);
    assert_true(wa_streamer_knows(f->s, "000000010000000000000001", xxh3, &branch));
    assert_false(wa_streamer_has_in_hand(f->s, "000000010000000000000001"));
    assert_string_equal(xxh3, wa_xxh_of(wal_bytes(f->wal), SEGMENT, is));
    assert_true(wa_branch_eq(&branch, &f->branch));
    uint64_t size;
    assert_int_equal(wa_spool_size(f->s->spool, &f->branch, 1, &size, &f->err), WA_NOT_FOUND);
    assert_int_equal(wa_spool_bytes(f->s->spool), 0);
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(SEGMENT);
    OK(f, wa_wal_get(f->repo, &f->branch, 1, NULL, bytes, NULL, NULL, &f->err));
    assert_memory_equal(bytes, wal_bytes(f->wal), SEGMENT);
}

static void
a_spool_file_that_could_not_be_read_is_read_again(void **state)
{
    fixture *f = *state;
    char path[128], hidden[128];
    snprintf(path, sizeof path, "%s/000000010000000000000001-%s", f->dir, f->branch.id);
    snprintf(hidden, sizeof hidden, "%s/hidden", f->dir);
    assert_int_equal(rename(path, hidden), 0);
    wal_add_noise(f->wal, 700, 3000);
    wa_lsn end = receive(f);
    WAIT_WHILE(f, f->s->status.last_error[0] == '\0');
    assert_int_equal(rename(hidden, path), 0);
    wait_durable(f, end);
    assert_tail_is(f, 1, end);
}

/* The flow as it is, again, in another epoch: everything received counts as durable. */
static void
install_next(fixture *f)
{
    wa_flow *flow = wa_malloc(sizeof *flow);
    wa_flow_init(flow);
    flow->branch = f->branch;
    flow->epoch = 2;
    flow->received = flow->checked = flow->durable = wal_position(f->wal);
    flow->handed = flow->received - flow->received % SEGMENT;
    flow->tail_in_spool = true;
    wa_flow_install(f->s, flow);
    free(flow);
}

static void
wait_hits(fixture *f, unsigned hits)
{
    wa_mono deadline = wa_mono_now() + DEADLINE_MS;
    while (wa_store_fault_hits(f->fault) < hits)
        assert_true(wa_mono_left(deadline) > 0);
}

static void
a_new_flow_need_not_wait_for_a_store_that_refuses_segments(void **state)
{
    fixture *f = *state;
    uint64_t size;
    wa_store_fault_set(f->fault, "put", 1, 1000000, WA_FAULT_DENY);
    {
        WA_LOCK(&f->s->mutex);
        f->s->status.synchronous = false; /* leaves everything to the whole object */
    }
    wal_fill_segment(f->wal);
    receive(f);
    wait_hits(f, 2);
    assert_true(wa_streamer_has_in_hand(f->s, "000000010000000000000001"));
    assert_false(wa_streamer_has_in_hand(f->s, "000000020000000000000001"));
    assert_false(wa_streamer_has_in_hand(f->s, "000000010000000000000002"));
    assert_false(wa_streamer_has_in_hand(f->s, "00000002.history"));
    install_next(f); /* would never return */
    wa_store_fault_set(f->fault, "put", 0, 0, WA_FAULT_FAIL);
    OK(f, wa_spool_begin(f->s->spool, &f->branch, 2, &size, &f->err));
    wal_add_noise(f->wal, 701, 3000);
    wait_durable(f, receive(f));
}

static void
what_is_left_of_an_older_flow_does_not_fence_the_new_one(void **state)
{
    fixture *f = *state;
    wa_store_fault_set(f->fault, "put", 1, 3, WA_FAULT_FAIL);
    wal_add_noise(f->wal, 700, 3000);
    receive(f);
    wait_hits(f, 4);
    install_next(f);
    OK(f, wa_tail_put_seal(f->repo, &f->branch, 1, SEGMENT, &f->err)); /* our own, at a switch */
    wal_add_noise(f->wal, 701, 3000);
    wait_durable(f, receive(f));
    assert_false(f->s->fenced);
}

static void
chunks_go_when_their_grace_is_over_but_never_the_newest(void **state)
{
    fixture *f = *state;
    uint64_t size;
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    wal_add_noise(f->wal, 700, 3000);
    wait_durable(f, receive(f));
    wal_fill_segment(f->wal);
    wait_durable(f, receive(f));
    WAIT_WHILE(f, f->s->removable_count == 0 || f->s->job_running);
    {
        WA_LOCK(&f->s->mutex);
        f->s->removable[0].at = wa_mono_now(); /* the grace is over */
        wa_cond_broadcast(&f->s->cond);
    }
    OK(f, wa_tail_list(f->repo, &f->branch, 1, &chunks, &f->err));
    assert_true(chunks.count > 0); /* nothing newer is durable yet */
    OK(f, wa_spool_begin(f->s->spool, &f->branch, 2, &size, &f->err));
    wal_add_noise(f->wal, 701, 3000);
    wait_durable(f, receive(f));
    wa_mono deadline = wa_mono_now() + DEADLINE_MS;
    do {
        assert_true(wa_mono_left(deadline) > 0);
        wa_chunks_done(&chunks);
        chunks = (wa_chunks){0};
        OK(f, wa_tail_list(f->repo, &f->branch, 1, &chunks, &f->err));
    } while (chunks.count > 0);
    assert_tail_is(f, 2, wal_position(f->wal));
}

static uint64_t
requests(fixture *f)
{
    static const char *const kinds[] = {"put", "get", "head", "list", "delete"};
    uint64_t sum = 0;
    for (size_t i = 0; i < WA_ARRAY_SIZE(kinds); i++)
        sum += wa_store_requests(f->fault, kinds[i]);
    return sum;
}

static void
wait_shipped(fixture *f, wa_lsn end)
{
    wait_durable(f, end);
    WAIT_WHILE(f, f->s->flow.job_count > 0 || f->s->job_running);
}

/* One segment after the other, each with a chunk of its own when `chunks`. */
static void
ship_segments(fixture *f, unsigned count, bool chunks)
{
    uint64_t size;
    for (unsigned i = 0; i < count; i++) {
        wa_segno segno = wa_segno_of(f->s->flow.received, SEGMENT);
        if (segno > 1)
            OK(f, wa_spool_begin(f->s->spool, &f->branch, segno, &size, &f->err));
        if (chunks) {
            wal_add_noise(f->wal, 700 + i, 3000);
            wait_durable(f, receive(f));
            leave_the_rest_to_the_whole(f);
        }
        wal_fill_segment(f->wal);
        wait_shipped(f, receive(f));
        WA_LOCK(&f->s->mutex);
        f->s->status.synchronous = chunks;
    }
}

/* A PUT, the look whether the epoch was sealed, and what the index takes for 16. */
static void
a_segment_under_load_takes_few_requests(void **state)
{
    fixture *f = *state;
    leave_the_rest_to_the_whole(f);
    ship_segments(f, 1, false);
    uint64_t before = requests(f), gets = wa_store_requests(f->fault, "get");
    uint64_t lists = wa_store_requests(f->fault, "list");
    ship_segments(f, 64, false);
    assert_true(requests(f) - before <= 64 * 2 + 64 / 16 * 18);
    assert_true(wa_store_requests(f->fault, "get") - gets <= 64 / 16 * 5);
    assert_true(wa_store_requests(f->fault, "list") - lists <= 64 + 64 / 16 * 12);
    assert_int_equal(wa_store_requests(f->fault, "head"), 0);
}

/* The chunk's PUT, and the look for the whole segment before it, are added. */
static void
a_segment_with_a_chunk_takes_two_requests_more(void **state)
{
    fixture *f = *state;
    ship_segments(f, 1, true);
    uint64_t before = requests(f), gets = wa_store_requests(f->fault, "get");
    ship_segments(f, 15, true);
    assert_true(requests(f) - before <= 15 * 4 + 16);
    assert_true(wa_store_requests(f->fault, "get") - gets <= 5);
    assert_true(wa_store_requests(f->fault, "head") <= 16);
}

/* Between two segments: the look behind the first one was before it. */
static void
a_seal_between_two_segments_keeps_the_second_from_being_acknowledged(void **state)
{
    fixture *f = *state;
    uint64_t size;
    leave_the_rest_to_the_whole(f);
    ship_segments(f, 1, false);
    OK(f, wa_tail_put_seal(f->repo, &f->branch, 1, 2 * SEGMENT, &f->err));
    OK(f, wa_spool_begin(f->s->spool, &f->branch, 2, &size, &f->err));
    wal_fill_segment(f->wal);
    receive(f);
    wait_fault(f);
    assert_true(f->s->fenced);
    assert_int_equal(f->s->flow.durable, 2 * SEGMENT);
}

/* A writer that slept must not fill the archive before it looks. */
static void
a_seal_that_came_while_the_writer_slept_is_seen_before_a_segment_is_put(void **state)
{
    fixture *f = *state;
    wa_segno last = 0;
    uint64_t size;
    leave_the_rest_to_the_whole(f);
    ship_segments(f, 1, false);
    OK(f, wa_tail_put_seal(f->repo, &f->branch, 1, 2 * SEGMENT, &f->err));
    f->s->unsealed.at -= WA_CHUNK_GRACE_MS + 1;
    OK(f, wa_spool_begin(f->s->spool, &f->branch, 2, &size, &f->err));
    wal_fill_segment(f->wal);
    receive(f);
    wait_fault(f);
    assert_true(f->s->fenced);
    OK(f, wa_wal_last(f->repo, &f->branch, &last, &f->err));
    assert_int_equal(last, 1);
}

/* The seal lies in a segment that the fenced writer has not come to. */
static void
a_seal_further_on_fences_as_well(void **state)
{
    fixture *f = *state;
    OK(f, wa_tail_put_seal(f->repo, &f->branch, 1, 3 * SEGMENT + 4000, &f->err));
    leave_the_rest_to_the_whole(f);
    wal_fill_segment(f->wal);
    receive(f);
    wait_fault(f);
    assert_true(f->s->fenced);
    assert_int_equal(f->s->flow.durable, SEGMENT);
}

/* Chunks are cut at their time, failures tried again, positions move on: forward by a year, and
 * back by two. */
static void
a_clock_that_is_set_delays_nothing(void **state)
{
    static const long steps[] = {366 * 86400L, -366 * 86400L, 0};
    fixture *f = *state;
    wa_time before = wa_time_now();
    {
        WA_LOCK(&f->s->mutex);
        f->s->status.synchronous = false;
        f->s->options.tail_interval_ms = 100;
    }
    for (unsigned i = 0; i < WA_ARRAY_SIZE(steps); i++) {
        wa_mono begin = wa_mono_now();
        wal_add_noise(f->wal, 700 + i, 3000);
        wa_store_fault_set(f->fault, "put", 1, 2, WA_FAULT_FAIL);
        wa_lsn end = receive(f);
        wall_clock_step = steps[i];
        wait_durable(f, end);
        assert_true(wa_mono_now() - begin < DEADLINE_MS);
        wa_streamer_status st;
        wa_streamer_get_status(f->s, &st);
        assert_true(st.lag_ms == 0 && st.durable == end);
    }
    assert_true(wa_time_now() - before < INT64_C(60) * 1000000);
    assert_int_equal(f->s->status.chunks_archived, WA_ARRAY_SIZE(steps));
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(chunks_follow_each_other_and_some_are_cumulative),
        TEST(more_than_a_chunk_may_hold_goes_into_several),
        TEST(a_lost_reply_is_recognised_as_our_own_chunk),
        TEST(failed_puts_are_tried_again_until_they_succeed),
        TEST(equal_bytes_of_another_are_history_up_to_the_shorter_end),
        TEST(other_bytes_are_a_contradiction_and_nothing_more_is_durable),
        TEST(a_seal_fences_chunks),
        TEST(a_seal_fences_whole_segments),
        TEST(a_seal_that_comes_while_a_whole_segment_is_put_keeps_it_from_being_acknowledged),
        TEST(a_seal_goes_behind_a_whole_segment_that_came_meanwhile),
        TEST(a_segment_with_other_content_stops_archiving),
        TEST(a_whole_segment_with_our_bytes_stands_for_a_chunk),
        TEST(a_whole_segment_with_other_bytes_stands_for_nothing),
        TEST(a_segment_whose_conflict_was_settled_stops_nothing),
        TEST(a_drain_does_not_wait_for_a_branch_that_has_no_name),
        TEST(a_whole_segment_replaces_its_spool_file_and_is_known),
        TEST(a_spool_file_that_could_not_be_read_is_read_again),
        TEST(a_new_flow_need_not_wait_for_a_store_that_refuses_segments),
        TEST(what_is_left_of_an_older_flow_does_not_fence_the_new_one),
        TEST(chunks_go_when_their_grace_is_over_but_never_the_newest),
        TEST(a_clock_that_is_set_delays_nothing),
        TEST(a_segment_under_load_takes_few_requests),
        TEST(a_segment_with_a_chunk_takes_two_requests_more),
        TEST(a_seal_between_two_segments_keeps_the_second_from_being_acknowledged),
        TEST(a_seal_that_came_while_the_writer_slept_is_seen_before_a_segment_is_put),
        TEST(a_seal_further_on_fences_as_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
