/*
 * test_push_stream.c - a segment that is checked and compressed a frame at a time is judged as one
 * that is read as a whole, or not at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hook_fixture.h"
#include "push_internal.h"

#include "walagent/codec/json.h"

#define LARGE (8u * 1024 * 1024) /* four frames */
#define FIRST 3u                 /* the segment before the one that is pushed */

typedef struct pair {
    fixture *f;
    wa_store *store;
    wa_repo *repo;
    wa_pool *pool;
    wal_builder *wal; /* from segment FIRST on */
    char *path;       /* of segment FIRST + 1 */
} pair;

static void
begin_pair(pair *p, fixture *f, const wal_builder_options *more)
{
    wa_error err = WA_ERROR_INIT;
    wa_cluster identity = {.system_identifier = SYSTEM, .major = 15, .segment_size = LARGE};
    wal_builder_options options = *more;
    bool created = false;
    p->f = f;
    p->store = wa_store_fault_new(wa_store_mem_new());
    OK(wa_repo_of_store(p->store, "main", 1, &p->repo, &err));
    OK(wa_repo_init(p->repo, &identity, false, &created, &err));
    OK(wa_repo_load(p->repo, &err));
    OK(wa_pool_new("work", 2, 8, &p->pool, &err));
    options.start = (wa_lsn)FIRST * LARGE;
    options.segment_size = LARGE;
    p->wal = wal_builder_new(&options);
    p->path = NULL;
    f->push = (wa_push_options){.repo = p->repo, .pool = p->pool};
}

static void
end_pair(pair *p)
{
    wa_repo_free(p->repo);
    wa_pool_free(p->pool);
    wal_builder_free(p->wal);
    free(p->path);
}

/* pg_wal as the server has it: the segment, and the one before if that is kept. */
static void
put_wal(pair *p, bool keep_before)
{
    char name[WA_SEGMENT_NAME];
    assert_true(wal_size(p->wal) >= 2 * LARGE);
    WA_CLEANUP(wa_freep)
    char *before = put_file(p->f, wa_segment_name(1, FIRST, LARGE, name), wal_bytes(p->wal), LARGE);
    if (!keep_before)
        assert_int_equal(unlink(before), 0);
    free(p->path);
    p->path = put_file(p->f, wa_segment_name(1, FIRST + 1, LARGE, name), wal_bytes(p->wal) + LARGE,
                       LARGE);
}

static wa_push_job
job_of(const pair *p)
{
    return (wa_push_job){.options = &p->f->push,
                         .repo = p->repo,
                         .path = p->path,
                         .name = wa_path_base(p->path),
                         .wal_dir = wa_path_dir(p->path),
                         .size = LARGE,
                         .tli = 1,
                         .segno = FIRST + 1,
                         .start = (wa_lsn)(FIRST + 1) * LARGE};
}

static void
assert_same_check(const wa_segment_check *a, const wa_segment_check *b)
{
    assert_int_equal(a->complete, b->complete);
    assert_int_equal(a->parsed, b->parsed);
    assert_true(a->valid_end == b->valid_end);
    assert_true(a->first_record == b->first_record && a->last_record == b->last_record);
    assert_true(a->system_identifier == b->system_identifier && a->page_addr == b->page_addr);
    assert_int_equal(a->page_tli, b->page_tli);
    assert_int_equal(a->magic, b->magic);
}

static void
assert_same_facts(const wa_wal_facts *a, const wa_wal_facts *b)
{
    WA_CLEANUP(wa_json_freep) json_t *one = wa_wal_facts_to_json(a);
    WA_CLEANUP(wa_json_freep) json_t *other = wa_wal_facts_to_json(b);
    WA_CLEANUP(wa_freep) char *one_text = wa_json_dump(one, 0);
    WA_CLEANUP(wa_freep) char *other_text = wa_json_dump(other, 0);
    assert_string_equal(one_text, other_text);
}

/* Streams the segment, and reads it as a whole: where the first says yes the second says the same.
 */
static bool
stream(const pair *p)
{
    wa_error err = WA_ERROR_INIT;
    char xxh3[WA_XXH_HEX], expected[WA_XXH_HEX];
    WA_CLEANUP(wa_push_job_done) wa_push_job streamed = job_of(p);
    WA_CLEANUP(wa_push_job_done) wa_push_job whole = job_of(p);
    bool done = wa_push_stream(&streamed);
    assert_null(streamed.data);
    if (!done) {
        assert_null(streamed.writer);
        assert_null(streamed.facts);
        return false;
    }
    OK(wa_push_read(&whole, false, false, &err));
    OK(wa_push_check(&whole, &err));
    assert_false(whole.damaged);
    assert_true(whole.check.complete && whole.check.parsed);
    assert_same_check(&streamed.check, &whole.check);
    assert_same_facts(streamed.facts, whole.facts);
    assert_string_equal(wa_container_hash(wa_wal_writer_container(streamed.writer), xxh3),
                        wa_xxh_of(whole.data, LARGE, expected));
    assert_true(wa_container_raw_size(wa_wal_writer_container(streamed.writer)) == LARGE);
    return true;
}

static void
fill_two_segments(pair *p)
{
    wal_add_commit(p->wal, 700, 1000);
    wal_fill_until(p->wal, (wa_lsn)(FIRST + 1) * LARGE + 1);
    wal_add_commit(p->wal, 701, 2000);
    wal_add_restore_point(p->wal, "here", 3000);
    wal_fill_until(p->wal, (wa_lsn)(FIRST + 1) * LARGE + 5u * 1024 * 1024);
    wal_add_checkpoint(p->wal, false, wal_prev(p->wal), 1, 1, 4000);
    wal_add_abort(p->wal, 702, 5000);
    wal_fill_until(p->wal, (wa_lsn)(FIRST + 2) * LARGE + 1);
}

static void
a_whole_segment_is_streamed_with_the_facts_of_one_that_is_read(void **state)
{
    pair p;
    begin_pair(&p, *state, &(wal_builder_options){0});
    fill_two_segments(&p);
    for (int keep_before = 0; keep_before < 2; keep_before++) {
        put_wal(&p, keep_before);
        assert_true(stream(&p));
    }
    end_pair(&p);
}

static void
a_segment_that_was_ended_by_a_switch_is_streamed(void **state)
{
    pair p;
    begin_pair(&p, *state, &(wal_builder_options){0});
    wal_fill_until(p.wal, (wa_lsn)(FIRST + 1) * LARGE + 3u * 1024 * 1024);
    wal_add_commit(p.wal, 700, 1000);
    wal_add_switch(p.wal);
    put_wal(&p, true);
    assert_true(stream(&p));
    end_pair(&p);
}

static void
what_is_streamed_can_be_got(void **state)
{
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    pair p;
    begin_pair(&p, *state, &(wal_builder_options){0});
    fill_two_segments(&p);
    put_wal(&p, true);
    WA_CLEANUP(wa_freep) uint8_t *got = wa_malloc(LARGE);
    OK(wa_push_file(&p.f->push, p.path, &result, &err));
    assert_int_equal(result.outcome, WA_PUT_CREATED);
    assert_true(result.checked && result.warning[0] == '\0');
    OK(wa_wal_get(p.repo, &p.f->first, FIRST + 1, NULL, got, NULL, NULL, &err));
    assert_memory_equal(got, wal_bytes(p.wal) + LARGE, LARGE);
    OK(wa_push_file(&p.f->push, p.path, &result, &err));
    assert_int_equal(result.outcome, WA_PUT_SAME);
    end_pair(&p);
}

/* By the one who reads it, who asks the archive first: what it hasn't is never held as a whole. */
static void
one_who_has_room_for_a_frame_compresses_by_himself(void **state)
{
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    wa_push_room room = {.segment = NULL};
    pair p;
    begin_pair(&p, *state, &(wal_builder_options){0});
    fill_two_segments(&p);
    put_wal(&p, true);
    p.f->push = (wa_push_options){.repo = p.repo, .room = &room, .look_first = true};
    OK(wa_push_file(&p.f->push, p.path, &result, &err));
    assert_int_equal(result.outcome, WA_PUT_CREATED);
    assert_true(result.checked && result.warning[0] == '\0');
    assert_non_null(room.compressor);
    assert_null(room.segment);
    assert_int_equal(wa_store_requests(p.store, "head"), 1);
    WA_CLEANUP(wa_freep) uint8_t *got = wa_malloc(LARGE);
    OK(wa_wal_get(p.repo, &p.f->first, FIRST + 1, NULL, got, NULL, NULL, &err));
    assert_memory_equal(got, wal_bytes(p.wal) + LARGE, LARGE);
    uint64_t puts = wa_store_requests(p.store, "put");
    OK(wa_push_file(&p.f->push, p.path, &result, &err));
    assert_int_equal(result.outcome, WA_PUT_SAME);
    assert_true(wa_store_requests(p.store, "put") == puts);
    wa_push_room_done(&room);
    end_pair(&p);
}

/* Of a conflict the name tells, when the segment is long compressed. */
static void
other_content_is_a_conflict_when_it_is_streamed_too(void **state)
{
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    pair p, other;
    begin_pair(&other, *state, &(wal_builder_options){0});
    wal_add_commit(other.wal, 555, 1);
    fill_two_segments(&other);
    begin_pair(&p, *state, &(wal_builder_options){0});
    fill_two_segments(&p);
    put_wal(&p, false);
    OK(wa_push_file(&p.f->push, p.path, &result, &err));
    WA_CLEANUP(wa_freep)
    char *path = put_file(p.f, wa_path_base(p.path), wal_bytes(other.wal) + LARGE, LARGE);
    FAILS(wa_push_file(&p.f->push, path, &result, &err), WA_CONFLICT);
    assert_non_null(strstr(err.message, "quarantine/"));
    end_pair(&p);
    end_pair(&other);
}

/* Neither judged nor archived here: the segment is read as a whole, which says what it is. */
static void
what_is_out_of_the_ordinary_is_not_streamed(void **state)
{
    pair p;
    begin_pair(&p, *state, &(wal_builder_options){0});
    fill_two_segments(&p);
    uint8_t *bytes = wal_bytes_mutable(p.wal) + LARGE;
    put_wal(&p, true);
    assert_true(stream(&p));

    bytes[24] ^= 1; /* another system */
    put_wal(&p, true);
    assert_false(stream(&p));
    bytes[24] ^= 1;
    bytes[0] = 0xFF; /* an unknown major */
    put_wal(&p, true);
    assert_false(stream(&p));
    bytes[0] = WAL_MAGIC_15 & 0xFF;
    bytes[LARGE - WA_WAL_PAGE + 4] = 2; /* the last page is of another timeline */
    put_wal(&p, true);
    assert_false(stream(&p));
    bytes[LARGE - WA_WAL_PAGE + 4] = 1;
    put_wal(&p, true);
    assert_true(stream(&p));
    assert_int_equal(truncate(p.path, LARGE - 1), 0);
    assert_false(stream(&p));
    assert_int_equal(unlink(p.path), 0);
    assert_false(stream(&p));
    put_wal(&p, true);
    memset(bytes + LARGE / 2, 0, LARGE / 2); /* unfinished */
    put_wal(&p, true);
    assert_false(stream(&p));
    end_pair(&p);
}

/* From the segment before over more than the first frame. */
static void
a_record_that_crosses_into_the_second_frame_is_not_streamed(void **state)
{
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    pair p;
    begin_pair(&p, *state, &(wal_builder_options){0});
    wal_fill_until(p.wal, (wa_lsn)(FIRST + 1) * LARGE - 1024 * 1024);
    wal_add_noise(p.wal, 700, 4u * 1024 * 1024);
    wal_fill_until(p.wal, (wa_lsn)(FIRST + 2) * LARGE + 1);
    put_wal(&p, true);
    assert_false(stream(&p));
    OK(wa_push_file(&p.f->push, p.path, &result, &err));
    assert_true(result.checked);
    put_wal(&p, false); /* nobody knows where it began */
    assert_true(stream(&p));
    end_pair(&p);
}

static uint64_t seed = 20271127;

static uint64_t
next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* In headers of pages and records, at the ends of frames, anywhere. */
static void
a_segment_with_a_wrong_bit_is_streamed_only_where_reading_it_finds_nothing(void **state)
{
    pair p;
    size_t refused = 0;
    print_message("seed %llu\n", (unsigned long long)seed);
    begin_pair(&p, *state, &(wal_builder_options){0});
    fill_two_segments(&p);
    for (int i = 0; i < 24; i++) {
        size_t at = next_random() % LARGE;
        if (i % 3 == 0)
            at = at / WA_WAL_PAGE * WA_WAL_PAGE + next_random() % 48;
        else if (i % 3 == 1)
            at = (1 + next_random() % 3) * WA_FRAME_WAL - 100 + next_random() % 200;
        uint8_t bit = (uint8_t)(1u << next_random() % 8);
        wal_bytes_mutable(p.wal)[LARGE + at] ^= bit;
        put_wal(&p, i % 2);
        if (!stream(&p))
            refused++;
        wal_bytes_mutable(p.wal)[LARGE + at] ^= bit;
    }
    assert_true(refused >= 20); /* padding behind a record holds no information */
    put_wal(&p, true);
    assert_true(stream(&p));
    end_pair(&p);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_whole_segment_is_streamed_with_the_facts_of_one_that_is_read),
        TEST(a_segment_that_was_ended_by_a_switch_is_streamed),
        TEST(what_is_streamed_can_be_got),
        TEST(one_who_has_room_for_a_frame_compresses_by_himself),
        TEST(other_content_is_a_conflict_when_it_is_streamed_too),
        TEST(what_is_out_of_the_ordinary_is_not_streamed),
        TEST(a_record_that_crosses_into_the_second_frame_is_not_streamed),
        TEST(a_segment_with_a_wrong_bit_is_streamed_only_where_reading_it_finds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
