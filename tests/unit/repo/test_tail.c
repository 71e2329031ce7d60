/*
 * Tests of tail chunks: only one writer extends, chains over epochs, seals and cumulative chunks.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "repo_fixture.h"
#include "wal_internal.h"

#include "walagent/repo/tail.h"

static char *
whole_pattern(uint32_t salt)
{
    return pattern(salt, SEGMENT);
}

static wa_status
chunk(fixture *f, uint32_t epoch, uint64_t base, uint64_t start, uint64_t end, const char *truth,
      wa_error *err)
{
    wa_lsn first = 3ull * SEGMENT;
    wa_wal_facts facts = facts_at((wa_time)start, 1);
    return wa_tail_put(f->repo, &f->first, epoch, first + start, first + base, truth + base,
                       end - base, &facts, true, err);
}

static void
expect_tail(fixture *f, const char *truth, uint64_t end)
{
    wa_error err = WA_ERROR_INIT;
    char *out = wa_malloc(SEGMENT);
    memset(out, 0x55, SEGMENT);
    wa_lsn got = 0, listed = 0;
    wa_wal_facts facts;
    OK(wa_tail_end(f->repo, &f->first, 3, &listed, NULL, &err));
    OK(wa_tail_assemble(f->repo, &f->first, 3, out, &got, &facts, &err));
    assert_true(got == 3ull * SEGMENT + end);
    assert_true(listed == got);
    assert_memory_equal(out, truth, end);
    for (uint64_t i = end; i < SEGMENT; i++)
        assert_int_equal(out[i], 0);
    free(out);
}

static void
a_chunk_without_facts_leaves_the_segments_incomplete(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    char *truth = whole_pattern(1), *out = wa_malloc(SEGMENT);
    wa_lsn first = 3ull * SEGMENT, end = 0;
    wa_wal_facts facts;
    OK(chunk(&f, 1, 0, 0, 100, truth, &err));
    OK(wa_tail_assemble(f.repo, &f.first, 3, out, &end, &facts, &err));
    assert_false(facts.overflow);
    OK(wa_tail_put(f.repo, &f.first, 1, first + 100, first + 100, truth + 100, 50, NULL, false,
                   &err));
    OK(chunk(&f, 1, 150, 150, 200, truth, &err));
    OK(wa_tail_put_seal(f.repo, &f.first, 1, first + 200, &err));
    OK(wa_tail_assemble(f.repo, &f.first, 3, out, &end, &facts, &err));
    assert_true(end == first + 200);
    assert_true(facts.overflow);
    /* A cumulative chunk with facts counts everything again. */
    OK(chunk(&f, 2, 0, 200, 300, truth, &err));
    OK(wa_tail_assemble(f.repo, &f.first, 3, out, &end, &facts, &err));
    assert_false(facts.overflow);
    free(out);
    free(truth);
    fixture_done(&f);
}

/* One unchecked link, the first or the newest or one between, and the tail is not a checked one. */
static void
a_tail_is_checked_when_all_its_chunks_are(void **state)
{
    (void)state;
    enum { LINKS = 3 };
    for (unsigned unchecked = 0; unchecked < 1u << LINKS; unchecked++) {
        wa_error err = WA_ERROR_INIT;
        fixture f;
        fixture_new(&f);
        WA_CLEANUP(wa_freep) char *truth = whole_pattern(1);
        wa_lsn first = 3ull * SEGMENT, end = 0;
        bool checked = unchecked != 0;
        for (unsigned i = 0; i < LINKS; i++)
            OK(wa_tail_put(f.repo, &f.first, 1, first + 100 * i, first + 100 * i, truth + 100 * i,
                           100, NULL, (unchecked >> i & 1) == 0, &err));
        OK(wa_tail_end_again(f.repo, &f.first, 3, &end, NULL, NULL, &checked, &err));
        assert_true(end == first + 100 * LINKS);
        assert_int_equal(checked, unchecked == 0);
        fixture_done(&f);
    }
}

#define LARGE (64u * 1024 * 1024)

typedef struct source {
    const char *bytes;
    uint64_t next, failing; /* failing: the offset at which a read fails */
} source;

static wa_status
read_source(void *arg, uint64_t offset, void *out, size_t len, wa_error *err)
{
    source *s = arg;
    assert_int_equal(offset, s->next);
    assert_in_range(len, 1, WA_FRAME_TAIL);
    if (offset <= s->failing && s->failing < offset + len)
        return wa_error_set(err, WA_IO, "no more");
    memcpy(out, s->bytes + offset, len);
    s->next += len;
    return WA_OK;
}

/* Of a gibibyte nobody holds more than a frame, and 16 MiB of what it compresses to. */
static void
a_large_chunk_is_read_piece_by_piece(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    wa_cluster identity = fixture_identity();
    bool created = false;
    fixture_bare(&f);
    identity.segment_size = LARGE;
    OK(wa_repo_init(f.repo, &identity, false, &created, &err));
    enum { SIZE = 20 * 1024 * 1024 + 12345 };
    WA_CLEANUP(wa_freep) char *truth = wa_malloc(SIZE);
    wa_lsn first = 3ull * LARGE;
    uint64_t x = 88172645463325252u;
    for (size_t i = 0; i < SIZE; i++) { /* nothing that compresses */
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        truth[i] = (char)(x >> 32);
    }
    source s = {truth, 0, SIZE - 1};
    FAILS(wa_tail_put_from(f.repo, &f.first, 1, first + 100, first, first + SIZE, read_source, &s,
                           NULL, true, &err),
          WA_IO);
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    OK(wa_tail_list(f.repo, &f.first, 3, &chunks, &err));
    assert_int_equal(chunks.count, 0);
    s = (source){truth, 0, UINT64_MAX};
    OK(wa_tail_put_from(f.repo, &f.first, 1, first + 100, first, first + SIZE, read_source, &s,
                        NULL, true, &err));
    assert_int_equal(s.next, SIZE);
    OK(wa_tail_list(f.repo, &f.first, 3, &chunks, &err));
    assert_int_equal(chunks.count, 1);
    assert_true(chunks.items[0].stored_size > 16u * 1024 * 1024); /* it went through a file */
    WA_CLEANUP(wa_buf_done) wa_buf bytes = WA_BUF_INIT(SIZE);
    wa_wal_info info;
    OK(wa_tail_get(f.repo, &f.first, 3, &chunks.items[0], &bytes, &info, NULL, &err));
    assert_int_equal(bytes.len, SIZE);
    assert_memory_equal(bytes.data, truth, SIZE);
    fixture_done(&f);
}

static void
only_a_seal_is_one(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    char *truth = whole_pattern(1);
    bool seal = true;
    OK(chunk(&f, 1, 0, 0, 100, truth, &err));
    OK(wa_tail_put_seal(f.repo, &f.first, 1, 3ull * SEGMENT + 100, &err));
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    OK(wa_tail_list(f.repo, &f.first, 3, &chunks, &err));
    assert_int_equal(chunks.count, 2);
    OK(wa_tail_is_seal(f.repo, &chunks.items[0], &seal, &err));
    assert_false(seal);
    OK(wa_tail_is_seal(f.repo, &chunks.items[1], &seal, &err));
    assert_true(seal);
    free(truth);
    fixture_done(&f);
}

static void
a_chain_of_chunks_gives_the_segments_prefix(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    char *truth = whole_pattern(1);
    wa_lsn end = 0;
    FAILS(wa_tail_end(f.repo, &f.first, 3, &end, NULL, &err), WA_NOT_FOUND);
    OK(chunk(&f, 1, 0, 0, 100, truth, &err));
    OK(chunk(&f, 1, 100, 100, 5000, truth, &err));
    expect_tail(&f, truth, 5000);
    OK(chunk(&f, 1, 0, 5000, 70000, truth, &err));
    expect_tail(&f, truth, 70000);
    OK(chunk(&f, 1, 70000, 70000, SEGMENT, truth, &err));
    expect_tail(&f, truth, SEGMENT);
    free(truth);
    fixture_done(&f);
}

static void
the_same_chunk_again_is_fine_and_another_one_is_not(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    char *truth = whole_pattern(1), *other = whole_pattern(2);
    OK(chunk(&f, 1, 0, 0, 100, truth, &err));
    OK(chunk(&f, 1, 0, 0, 100, truth, &err));
    FAILS(chunk(&f, 1, 0, 0, 100, other, &err), WA_EXISTS);
    FAILS(chunk(&f, 1, 0, 0, 101, truth, &err), WA_EXISTS);
    expect_tail(&f, truth, 100);
    free(truth);
    free(other);
    fixture_done(&f);
}

static void
a_sealed_epoch_cannot_be_extended(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    char *truth = whole_pattern(1);
    OK(chunk(&f, 1, 0, 0, 100, truth, &err));
    OK(wa_tail_put_seal(f.repo, &f.first, 1, 3ull * SEGMENT + 100, &err));
    OK(wa_tail_put_seal(f.repo, &f.first, 1, 3ull * SEGMENT + 100, &err));
    FAILS(chunk(&f, 1, 100, 100, 200, truth, &err), WA_EXISTS);
    expect_tail(&f, truth, 100);
    OK(chunk(&f, 2, 100, 100, 300, truth, &err));
    expect_tail(&f, truth, 300);
    free(truth);
    fixture_done(&f);
}

static void
what_a_fenced_writer_adds_behind_a_takeover_does_not_count(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    char *truth = whole_pattern(1), *zombie = whole_pattern(2);
    OK(chunk(&f, 1, 0, 0, 100, truth, &err));
    OK(chunk(&f, 2, 100, 100, 200, truth, &err));
    OK(chunk(&f, 1, 100, 100, 900, zombie, &err));
    OK(chunk(&f, 1, 900, 900, 1900, zombie, &err));
    expect_tail(&f, truth, 200);
    OK(chunk(&f, 2, 200, 200, 300, truth, &err));
    expect_tail(&f, truth, 300);
    free(truth);
    free(zombie);
    fixture_done(&f);
}

static void
a_chunk_that_does_not_fit_its_segment_is_refused(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    char *truth = pattern(1, 2 * SEGMENT);
    wa_lsn first = 3ull * SEGMENT;
    FAILS(wa_tail_put(f.repo, &f.first, 1, first, first, truth, SEGMENT + 1, NULL, true, &err),
          WA_INVALID);
    FAILS(wa_tail_put(f.repo, &f.first, 1, first, first, truth, 0, NULL, true, &err), WA_INVALID);
    FAILS(wa_tail_put(f.repo, &f.first, 1, first + 100, first, truth, 100, NULL, true, &err),
          WA_INVALID);
    FAILS(wa_tail_put(f.repo, &f.first, 1, first + 100, first + 50, truth, 100, NULL, true, &err),
          WA_INVALID);
    free(truth);
    fixture_done(&f);
}

static void
a_damaged_chunk_is_named_and_a_missing_one_ends_the_chain(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    char *truth = whole_pattern(1), *out = wa_malloc(SEGMENT);
    OK(chunk(&f, 1, 0, 0, 100, truth, &err));
    OK(chunk(&f, 1, 100, 100, 200, truth, &err));
    OK(chunk(&f, 1, 200, 200, 300, truth, &err));
    wa_lsn end = 0;
    wa_store_fault_set(f.store, "get", 2, 0, WA_FAULT_FLIP);
    FAILS(wa_tail_assemble(f.repo, &f.first, 3, out, &end, NULL, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, "/00000001/"));
    wa_chunks chunks = {0};
    OK(wa_tail_list(f.repo, &f.first, 3, &chunks, &err));
    assert_int_equal(chunks.count, 3);
    drop(&f, chunks.items[1].key);
    expect_tail(&f, truth, 100);
    drop(&f, chunks.items[0].key);
    FAILS(wa_tail_end(f.repo, &f.first, 3, &end, NULL, &err), WA_CORRUPT);
    wa_chunks_done(&chunks);
    free(truth);
    free(out);
    fixture_done(&f);
}

/* A writer's view in the property test. */
typedef struct model {
    uint64_t end; /* of the accepted chain */
    uint32_t epoch;
    unsigned since_cumulative;
    uint64_t zombie_end; /* of what the last fenced writer believes; 0: none */
    uint32_t zombie_epoch;
} model;

static void
random_step(fixture *f, model *m, const char *truth, const char *lies, uint64_t *seed)
{
    wa_error err = WA_ERROR_INIT;
    uint64_t dice = next_random(seed) % 100, room = SEGMENT - m->end;
    uint64_t len = 1 + next_random(seed) % (room < 9000 ? room : 9000);
    if (dice < 12 && m->zombie_end > 0 && m->zombie_end + 700 <= SEGMENT) {
        OK(chunk(f, m->zombie_epoch, m->zombie_end, m->zombie_end, m->zombie_end + 700, lies,
                 &err));
        m->zombie_end += 700;
    } else if (dice < 20 && m->end > 0) { /* sealed */
        OK(wa_tail_put_seal(f->repo, &f->first, m->epoch, 3ull * SEGMENT + m->end, &err));
        m->epoch += 1 + (uint32_t)(next_random(seed) % 3);
        m->zombie_end = 0;
    } else if (dice < 27 && m->end > 0) { /* taken over without a seal: the old one writes on */
        m->zombie_epoch = m->epoch;
        m->zombie_end = m->end;
        m->epoch++;
        OK(chunk(f, m->epoch, m->end, m->end, m->end + len, truth, &err));
        m->end += len;
        m->since_cumulative++;
    } else {
        bool cumulative = m->since_cumulative >= 32 || dice > 90;
        OK(chunk(f, m->epoch, cumulative ? 0 : m->end, m->end, m->end + len, truth, &err));
        m->end += len;
        m->since_cumulative = cumulative ? 0 : m->since_cumulative + 1;
    }
}

static void
random_chains_are_followed_to_their_end(void **state)
{
    (void)state;
    char *truth = whole_pattern(1), *lies = whole_pattern(2);
    for (uint64_t round = 1; round <= 25; round++) {
        uint64_t seed = 20261126 * round;
        print_message("seed %llu\n", (unsigned long long)seed);
        fixture f;
        fixture_new(&f);
        model m = {.epoch = 1};
        for (int step = 0; step < 60 && m.end < SEGMENT; step++) {
            random_step(&f, &m, truth, lies, &seed);
            if (m.end > 0 && step % 7 == 0)
                expect_tail(&f, truth, m.end);
        }
        expect_tail(&f, truth, m.end);
        fixture_done(&f);
    }
    free(truth);
    free(lies);
}

static void
the_walk_back_asks_for_few_chunks(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    char *truth = whole_pattern(1);
    uint64_t end = 0;
    for (unsigned i = 0; i < 200; i++, end += 100)
        OK(chunk(&f, 1, i % 33 == 0 ? 0 : end, end, end + 100, truth, &err));
    uint64_t before = requests(&f);
    wa_lsn got = 0;
    OK(wa_tail_end(f.repo, &f.first, 3, &got, NULL, &err));
    assert_true(got == 3ull * SEGMENT + end);
    assert_true(requests(&f) - before <= 1 + 33 + 8);
    free(truth);
    fixture_done(&f);
}

static void
chunks_are_removed_only_when_the_whole_segment_is_there(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    char *truth = whole_pattern(1);
    OK(chunk(&f, 1, 0, 0, 100, truth, &err));
    OK(chunk(&f, 1, 100, 100, 200, truth, &err));
    FAILS(wa_tail_remove(f.repo, &f.first, 3, &err), WA_NOT_FOUND);
    assert_int_equal(count_keys(&f, "tail/"), 2);
    put_segment(&f, &f.first, 3, 1);
    OK(wa_tail_remove(f.repo, &f.first, 3, &err));
    assert_int_equal(count_keys(&f, "tail/"), 1); /* the newest of the timeline stays */
    OK(wa_tail_put(f.repo, &f.first, 1, 4ull * SEGMENT, 4ull * SEGMENT, truth, 10, NULL, true,
                   &err));
    OK(wa_tail_remove(f.repo, &f.first, 3, &err));
    wa_segno *segments = NULL;
    size_t count = 0;
    OK(wa_tail_segments(f.repo, &f.first, &segments, &count, &err));
    assert_int_equal(count, 1);
    assert_true(segments[0] == 4);
    free(segments);
    free(truth);
    fixture_done(&f);
}

static void
chunks_of_many_segments_are_removed_by_few_requests(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    char *truth = whole_pattern(1);
    for (wa_segno segno = 3; segno < 103; segno++) {
        wa_lsn start = segno * SEGMENT;
        for (wa_lsn at = start; at < start + 300; at += 100)
            OK(wa_tail_put(f.repo, &f.first, 1, at, at, truth, 100, NULL, true, &err));
        if (segno != 50)
            put_segment(&f, &f.first, segno, 1);
    }
    uint64_t before = requests(&f);
    OK(wa_tail_remove_range(f.repo, &f.first, 3, 100, &err));
    assert_true(requests(&f) - before <= 3);
    wa_segno *segments = NULL;
    size_t count = 0;
    OK(wa_tail_segments(f.repo, &f.first, &segments, &count, &err));
    assert_int_equal(count, 4); /* the one that is not there as a whole, and those not asked for */
    assert_true(segments[0] == 50 && segments[1] == 100 && segments[3] == 102);
    free(segments);
    OK(wa_tail_remove_range(f.repo, &f.first, 100, 103, &err));
    assert_int_equal(count_keys(&f, "tail/"), 3 + 1); /* the newest stays */
    wa_chunks chunks = {0};
    OK(wa_tail_list_from(f.repo, &f.first, 51, &chunks, &err));
    assert_int_equal(chunks.count, 1);
    assert_true(chunks.items[0].start == 102ull * SEGMENT + 200 && chunks.items[0].epoch == 1);
    wa_chunks_done(&chunks);
    before = requests(&f);
    OK(wa_tail_remove_range(f.repo, &f.first, 60, 100, &err));
    assert_true(requests(&f) - before == 1);
    free(truth);
    fixture_done(&f);
}

static void
every_failure_of_a_put_can_be_repeated(void **state)
{
    (void)state;
    static const wa_fault faults[] = {WA_FAULT_FAIL, WA_FAULT_LOSE_REPLY, WA_FAULT_TEAR};
    char *truth = whole_pattern(1);
    for (size_t kind = 0; kind < WA_ARRAY_SIZE(faults); kind++) {
        for (unsigned nth = 1;; nth++) {
            assert_true(nth < 20);
            wa_error err = WA_ERROR_INIT;
            fixture f;
            fixture_new(&f);
            OK(chunk(&f, 1, 0, 0, 100, truth, &err));
            wa_store_fault_set(f.store, "any", nth, 0, faults[kind]);
            wa_status status = chunk(&f, 1, 100, 100, 200, truth, &err);
            unsigned hits = wa_store_fault_hits(f.store);
            no_faults(&f);
            if (status != WA_OK) {
                assert_int_equal(status, WA_UNAVAILABLE);
                OK(chunk(&f, 1, 100, 100, 200, truth, &err));
            }
            expect_tail(&f, truth, 200);
            fixture_done(&f);
            if (hits == 0)
                break;
        }
    }
    free(truth);
}

/* No failure of a read may look like a shorter tail. */
static void
every_failure_of_a_read_is_an_error_and_never_a_shorter_tail(void **state)
{
    (void)state;
    static const wa_fault faults[] = {WA_FAULT_FAIL, WA_FAULT_TEAR, WA_FAULT_TRUNCATE_LIST,
                                      WA_FAULT_DENY, WA_FAULT_FLIP};
    wa_error err = WA_ERROR_INIT;
    fixture f;
    fixture_new(&f);
    char *truth = whole_pattern(1), *out = wa_malloc(SEGMENT);
    for (uint64_t i = 0; i < 6; i++)
        OK(chunk(&f, 1 + (uint32_t)i / 3, i * 50, i * 50, i * 50 + 50, truth, &err));
    for (size_t kind = 0; kind < WA_ARRAY_SIZE(faults); kind++) {
        for (unsigned nth = 1; nth < 30; nth++) {
            wa_lsn end = 0;
            wa_store_fault_set(f.store, "any", nth, 0, faults[kind]);
            wa_status status = wa_tail_assemble(f.repo, &f.first, 3, out, &end, NULL, &err);
            if (status == WA_OK)
                assert_true(end == 3ull * SEGMENT + 300);
            assert_true(status != WA_NOT_FOUND);
            assert_true(nth > 12 || status != WA_OK || faults[kind] == WA_FAULT_FLIP ||
                        faults[kind] == WA_FAULT_TRUNCATE_LIST);
        }
    }
    free(truth);
    free(out);
    fixture_done(&f);
}

typedef struct racer {
    fixture *f;
    const char *bytes;
    wa_status status;
} racer;

static void *
race_chunk(void *arg)
{
    racer *r = arg;
    wa_error err = WA_ERROR_INIT;
    r->status = chunk(r->f, 1, 100, 100, 200, r->bytes, &err);
    return NULL;
}

static void
two_writers_cannot_both_extend_the_tail(void **state)
{
    (void)state;
    char *truth = whole_pattern(1), *other = whole_pattern(2);
    for (int round = 0; round < 20; round++) {
        wa_error err = WA_ERROR_INIT;
        fixture f;
        fixture_new(&f);
        OK(chunk(&f, 1, 0, 0, 100, truth, &err));
        racer racers[2] = {{&f, truth, WA_FAILED}, {&f, other, WA_FAILED}};
        pthread_t threads[2];
        for (size_t i = 0; i < 2; i++)
            OK(wa_thread_start(&threads[i], "tail", race_chunk, &racers[i], &err));
        for (size_t i = 0; i < 2; i++)
            wa_thread_join(threads[i]);
        assert_true((racers[0].status == WA_OK && racers[1].status == WA_EXISTS) ||
                    (racers[1].status == WA_OK && racers[0].status == WA_EXISTS));
        fixture_done(&f);
    }
    free(truth);
    free(other);
}

/* The grace period ends between the listing and the look at what it showed. */
static void
segment_arrives(void *arg)
{
    char *bytes = pattern(1, SEGMENT);
    replace_chunks_by_whole(arg, 5, bytes);
    free(bytes);
}

static void
chunks_that_are_removed_after_they_were_listed_are_looked_for_again(void **state)
{
    static const char *const kinds[] = {"head", "get"};
    (void)state;
    for (size_t i = 0; i < WA_ARRAY_SIZE(kinds); i++) {
        for (unsigned nth = 1; nth <= 2; nth++) {
            wa_error err = WA_ERROR_INIT;
            wa_lsn end = 0;
            fixture f;
            fixture_new(&f);
            char *bytes = pattern(1, SEGMENT), *out = malloc(SEGMENT);
            OK(wa_tail_put(f.repo, &f.first, 1, 5 * SEGMENT, 5 * SEGMENT, bytes, 100, NULL, true,
                           &err));
            OK(wa_tail_put(f.repo, &f.first, 1, 5 * SEGMENT + 100, 5 * SEGMENT + 100, bytes + 100,
                           100, NULL, true, &err));
            wa_store_fault_before(f.store, kinds[i], nth, segment_arrives, &f);
            FAILS(wa_tail_assemble(f.repo, &f.first, 5, out, &end, NULL, &err), WA_NOT_FOUND);
            assert_non_null(strstr(err.message, "has no chunk")); /* it was listed again */
            fixture_done(&f);
            free(bytes);
            free(out);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_that_are_removed_after_they_were_listed_are_looked_for_again),
        cmocka_unit_test(a_chunk_without_facts_leaves_the_segments_incomplete),
        cmocka_unit_test(a_tail_is_checked_when_all_its_chunks_are),
        cmocka_unit_test(a_large_chunk_is_read_piece_by_piece),
        cmocka_unit_test(only_a_seal_is_one),
        cmocka_unit_test(a_chain_of_chunks_gives_the_segments_prefix),
        cmocka_unit_test(the_same_chunk_again_is_fine_and_another_one_is_not),
        cmocka_unit_test(a_sealed_epoch_cannot_be_extended),
        cmocka_unit_test(what_a_fenced_writer_adds_behind_a_takeover_does_not_count),
        cmocka_unit_test(a_chunk_that_does_not_fit_its_segment_is_refused),
        cmocka_unit_test(a_damaged_chunk_is_named_and_a_missing_one_ends_the_chain),
        cmocka_unit_test(random_chains_are_followed_to_their_end),
        cmocka_unit_test(the_walk_back_asks_for_few_chunks),
        cmocka_unit_test(chunks_are_removed_only_when_the_whole_segment_is_there),
        cmocka_unit_test(chunks_of_many_segments_are_removed_by_few_requests),
        cmocka_unit_test(every_failure_of_a_put_can_be_repeated),
        cmocka_unit_test(every_failure_of_a_read_is_an_error_and_never_a_shorter_tail),
        cmocka_unit_test(two_writers_cannot_both_extend_the_tail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
