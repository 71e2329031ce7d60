/*
 * test_push.c - archive_command: what is stored under which name, and what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hook_fixture.h"
#include "push_internal.h"

#include <fcntl.h>
#include <sys/syscall.h>

#include "walagent/repo/resolution.h"

#define SEG3 "000000010000000000000003"
#define FORK 0x341000u
#define HISTORY "1\t0/341000\tno recovery target specified\n"

#define FLIPPED 300000u /* in the first frame */

/* A disk may read wrong once; libc's function is replaced in this program. */
static _Atomic unsigned wrong_readings;

ssize_t
pread(int fd, void *data, size_t len, off_t offset)
{
    ssize_t got = (ssize_t)syscall(SYS_pread64, fd, data, len, offset);
    if (offset == 0 && got > (ssize_t)FLIPPED && wrong_readings > 0) {
        wrong_readings--;
        ((uint8_t *)data)[FLIPPED] ^= 4;
    }
    return got;
}

static void
a_segment_is_stored_once_and_the_same_again_is_fine(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    wal_builder *b = full_segment(700);
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    assert_int_equal(result.outcome, WA_PUT_CREATED);
    assert_true(result.checked);
    assert_true(wa_branch_eq(&result.branch, &f->first));
    assert_string_equal(result.warning, "");
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    assert_int_equal(result.outcome, WA_PUT_SAME);
    wa_wal_facts *facts = wa_malloc(sizeof *facts);
    OK(wa_wal_get_facts(f->repo, &f->first, 3, facts, NULL, &err));
    assert_int_equal(facts->commits, 1);
    assert_false(facts->overflow);
    wa_freep(&facts);
    wal_builder_free(b);
}

static void
other_content_is_a_conflict_and_is_kept(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    wal_builder *b = full_segment(700), *other = full_segment(701);
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    FAILS(push(f, SEG3, wal_bytes(other), SEGMENT, &result, &err), WA_CONFLICT);
    assert_non_null(strstr(err.message, "quarantine/"));
    assert_int_equal(count_keys(f, "quarantine/"), 1);
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    wal_builder_free(b);
    wal_builder_free(other);
}

static void
settled_content_is_accepted_with_a_warning_and_no_other(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    bool created = false;
    WA_CLEANUP(wa_quarantine_list_done) wa_quarantine_list kept = {0};
    wal_builder *b = full_segment(700), *other = full_segment(701), *third = full_segment(702);
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    OK(wa_quarantine_find(f->repo, SEG3, &kept, &err));
    assert_int_equal(kept.count, 0);
    FAILS(push(f, SEG3, wal_bytes(other), SEGMENT, &result, &err), WA_CONFLICT);
    FAILS(push(f, SEG3, wal_bytes(other), SEGMENT, &result, &err), WA_CONFLICT);
    OK(wa_quarantine_find(f->repo, "000000010000000000000030", &kept, &err));
    assert_int_equal(kept.count, 0);
    OK(wa_quarantine_find(f->repo, SEG3, &kept, &err));
    assert_int_equal(kept.count, 1);
    OK(wa_resolution_put(f->repo, &kept.items[0], WA_KEEP_ARCHIVED, &created, &err));
    assert_true(created);
    OK(wa_resolution_put(f->repo, &kept.items[0], WA_KEEP_BOTH, &created, &err));
    assert_false(created);
    OK(push(f, SEG3, wal_bytes(other), SEGMENT, &result, &err));
    assert_non_null(strstr(result.warning, "settled"));
    assert_string_equal(result.xxh3, ""); /* it isn't archived under its name */
    FAILS(push(f, SEG3, wal_bytes(third), SEGMENT, &result, &err), WA_CONFLICT);
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    assert_string_equal(result.warning, "");
    uint8_t *got = wa_malloc(SEGMENT);
    OK(wa_wal_get(f->repo, &f->first, 3, NULL, got, NULL, NULL, &err));
    assert_memory_equal(got, wal_bytes(b), SEGMENT);
    free(got);
    wal_builder_free(b);
    wal_builder_free(other);
    wal_builder_free(third);
}

static void
a_segment_that_is_there_is_asked_for_and_not_sent_again(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    wal_builder *b = full_segment(700), *other = full_segment(701);
    f->push.look_first = true;
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    assert_int_equal(result.outcome, WA_PUT_CREATED);
    uint64_t puts = wa_store_requests(f->store, "put");
    char xxh3[WA_XXH_HEX];
    memcpy(xxh3, result.xxh3, sizeof xxh3);
    wa_push_room room = {0};
    f->push.room = &room;
    memset(&result, 0, sizeof result);
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    assert_int_equal(result.outcome, WA_PUT_SAME);
    assert_string_equal(result.xxh3, xxh3);
    assert_true(wa_branch_eq(&result.branch, &f->first) && result.checked);
    assert_true(wa_store_requests(f->store, "put") == puts);
    assert_null(room.segment); /* a piece at a time */
    f->push.room = NULL;
    wa_store_fault_set(f->store, "settle", 1, 1, WA_FAULT_GONE); /* since it was seen */
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    assert_true(wa_store_requests(f->store, "put") == puts + 1);
    FAILS(push(f, SEG3, wal_bytes(other), SEGMENT, &result, &err), WA_CONFLICT);
    wal_builder_free(b);
    wal_builder_free(other);
}

typedef struct streamed {
    const void *data; /* one segment, in the archive as SEG3 */
    wa_branch branch;
} streamed;

static bool
streamed_knows(void *arg, const char *name, char ret_xxh3[static WA_XXH_HEX], wa_branch *ret_branch)
{
    const streamed *s = arg;
    if (strcmp(name, SEG3) != 0)
        return false;
    wa_xxh_of(s->data, SEGMENT, ret_xxh3);
    *ret_branch = s->branch;
    return true;
}

static void
what_was_streamed_is_compared_and_not_sent_again(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    wal_builder *b = full_segment(700);
    streamed s = {.data = wal_bytes(b), .branch = f->first};
    WA_CLEANUP(wa_freep) uint8_t *other = wa_memdup(wal_bytes(b), SEGMENT);
    char xxh3[WA_XXH_HEX];
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    size_t objects = count_keys(f, "");
    f->push.knows = streamed_knows;
    f->push.knows_arg = &s;
    wa_store_fault_set(f->store, "any", 1, 1000, WA_FAULT_FAIL);
    result = (wa_push_result){0};
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    assert_int_equal(wa_store_fault_hits(f->store), 0); /* nobody was asked */
    assert_int_equal(result.outcome, WA_PUT_SAME);
    assert_true(result.checked && wa_branch_eq(&result.branch, &f->first));
    assert_string_equal(result.xxh3, wa_xxh_of(wal_bytes(b), SEGMENT, xxh3));
    wa_store_fault_set(f->store, "any", 0, 0, WA_FAULT_FAIL);
    FAILS(push(f, SEG3, wal_bytes(b), SEGMENT - 1, &result, &err), WA_CONFLICT);
    wa_error_clear(&err);
    other[SEGMENT - 1] ^= 1; /* the last byte of the last piece that is read */
    FAILS(push(f, SEG3, other, SEGMENT, &result, &err), WA_CONFLICT);
    assert_int_equal(count_keys(f, ""), objects + 2); /* quarantine and event */
    wal_builder_free(b);
}

static wa_status
no_turn(void *arg, wa_error *err)
{
    fixture *f = arg;
    assert_int_equal(count_keys(f, "wal/"), 0);
    return wa_error_set(err, WA_CANCELLED, "not now");
}

static void
nothing_is_written_before_its_turn(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    wal_builder *b = full_segment(700);
    f->push.turn = no_turn;
    f->push.turn_arg = f;
    FAILS(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err), WA_CANCELLED);
    assert_int_equal(count_keys(f, "wal/"), 0);
    uint8_t *padded = wa_calloc(1, SEGMENT);
    memcpy(padded, wal_bytes(b), SEGMENT / 2);
    FAILS(push(f, SEG3, padded, SEGMENT, &result, &err), WA_CANCELLED);
    assert_int_equal(count_keys(f, "tail/"), 0);
    free(padded);
    wal_builder_free(b);
}

typedef struct given_room {
    wa_push_room room;
    int given_back;
    int asked; /* for the turn */
} given_room;

/* Nobody may look at it again. */
static void
take_room_back(void *arg)
{
    given_room *g = arg;
    wa_push_room_done(&g->room);
    g->given_back++;
}

static wa_status
turn_without_the_room(void *arg, wa_error *err)
{
    given_room *g = arg;
    (void)err;
    assert_int_equal(g->given_back, 1);
    g->asked++;
    return WA_OK;
}

static void
a_room_is_given_back_when_all_is_compressed(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    wal_builder *b = full_segment(700), *other = full_segment(701);
    WA_CLEANUP(wa_freep) uint8_t *back = wa_malloc(SEGMENT);
    WA_CLEANUP(wa_freep) uint8_t *padded = wa_calloc(1, SEGMENT);
    given_room g = {.given_back = 0};
    f->push.room = &g.room;
    f->push.room_done = take_room_back;
    f->push.turn = turn_without_the_room;
    f->push.room_arg = f->push.turn_arg = &g;
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    assert_int_equal(g.given_back + g.asked, 2);
    OK(wa_wal_get(f->repo, &f->first, 3, NULL, back, NULL, NULL, &err));
    assert_memory_equal(back, wal_bytes(b), SEGMENT);
    g.given_back = 0;
    FAILS(push(f, SEG3, wal_bytes(other), SEGMENT, &result, &err), WA_CONFLICT);
    assert_int_equal(g.given_back, 1);
    assert_int_equal(count_keys(f, "quarantine/"), 1);
    f->push.turn = NULL; /* a chunk is made of what was read as a whole */
    memcpy(padded, wal_bytes(b), SEGMENT / 2);
    OK(push(f, SEG3, padded, SEGMENT, &result, &err));
    assert_int_equal(g.given_back, 1);
    assert_non_null(g.room.segment);
    wa_push_room_done(&g.room);
    wal_builder_free(b);
    wal_builder_free(other);
}

static wa_status
no_turn_at_all(void *arg, wa_error *err)
{
    (void)arg;
    return wa_error_set(err, WA_CANCELLED, "not now");
}

/* file:// sees that before it would ask. */
static void
that_its_name_is_taken_is_not_found_before_its_turn(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = use_directory(f, SEGMENT);
    wal_builder *b = full_segment(700), *other = full_segment(701);
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    f->push.turn = no_turn_at_all;
    FAILS(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err), WA_CANCELLED);
    wa_error_clear(&err);
    FAILS(push(f, SEG3, wal_bytes(other), SEGMENT, &result, &err), WA_CANCELLED);
    WA_CLEANUP(wa_quarantine_list_done) wa_quarantine_list kept = {0};
    wa_error_clear(&err);
    OK(wa_quarantine_find(repo, SEG3, &kept, &err));
    assert_int_equal(kept.count, 0);
    wal_builder_free(b);
    wal_builder_free(other);
}

static void
what_is_not_the_segment_of_its_name_is_refused(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    wal_builder *b = full_segment(700);
    FAILS(push(f, "000000010000000000000004", wal_bytes(b), SEGMENT, &result, &err), WA_CONFLICT);
    FAILS(push(f, SEG3, wal_bytes(b), SEGMENT - 1, &result, &err), WA_CONFLICT);
    FAILS(push(f, "0000000100000000000FFFFF", wal_bytes(b), SEGMENT, &result, &err), WA_CONFLICT);
    FAILS(push(f, "postmaster.pid", wal_bytes(b), 10, &result, &err), WA_INVALID);
    wal_builder_free(b);
    b = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT, .system_identifier = 7});
    wal_fill_segment(b);
    FAILS(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err), WA_CONFLICT);
    wal_builder_free(b);
    char *zeroes = wa_calloc(1, SEGMENT);
    FAILS(push(f, SEG3, zeroes, SEGMENT, &result, &err), WA_CONFLICT);
    free(zeroes);
    assert_int_equal(count_keys(f, "wal/"), 0);
    assert_int_equal(count_keys(f, "tail/"), 0);
}

static void
damage_is_archived_unchecked_or_refused_as_configured(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    wa_wal_info info = {0};
    wal_builder *b = full_segment(700);
    wal_bytes_mutable(b)[500000] ^= 4;
    f->push.stop_on_damage = true;
    FAILS(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err), WA_CORRUPT);
    assert_int_equal(count_keys(f, "wal/"), 0);
    f->push.stop_on_damage = false;
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    assert_false(result.checked);
    assert_non_null(strstr(result.warning, "contradicts itself"));
    OK(wa_wal_head(f->repo, &f->first, 3, &info, &err));
    assert_false(info.checked);
    wal_builder_free(b);
}

#define LARGE (16u * 1024 * 1024)

typedef struct large {
    wa_store *store;
    wa_repo *repo;
    wa_pool *pool;
    wal_builder *wal; /* segment 3 */
    wa_push_room room;
} large;

/* Segments of several frames, and a pool: compression begins before the records are checked. */
static void
begin_large(large *l, fixture *f)
{
    wa_error err = WA_ERROR_INIT;
    wa_cluster identity = {.system_identifier = SYSTEM, .major = 15, .segment_size = LARGE};
    bool created = false;
    l->store = wa_store_fault_new(wa_store_mem_new());
    OK(wa_repo_of_store(l->store, "main", 1, &l->repo, &err));
    OK(wa_repo_init(l->repo, &identity, false, &created, &err));
    OK(wa_repo_load(l->repo, &err));
    OK(wa_pool_new("work", 2, 8, &l->pool, &err));
    l->wal = wal_builder_new(
        &(wal_builder_options){.start = UINT64_C(3) * LARGE, .segment_size = LARGE});
    wal_add_commit(l->wal, 700, 1000);
    wal_fill_segment(l->wal);
    l->room = (wa_push_room){.segment = NULL};
    f->push.repo = l->repo;
    f->push.pool = l->pool;
}

static void
end_large(large *l)
{
    wa_repo_free(l->repo);
    wa_pool_free(l->pool);
    wal_builder_free(l->wal);
    wa_push_room_done(&l->room);
}

static void
what_is_compressed_before_it_is_checked_is_what_was_pushed(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    large l;
    begin_large(&l, f);
    WA_CLEANUP(wa_freep) uint8_t *got = wa_malloc(LARGE);
    char xxh3[WA_XXH_HEX];
    OK(push(f, SEG3, wal_bytes(l.wal), LARGE, &result, &err));
    assert_int_equal(result.outcome, WA_PUT_CREATED);
    assert_string_equal(result.xxh3, wa_xxh_of(wal_bytes(l.wal), LARGE, xxh3));
    OK(wa_wal_get(l.repo, &f->first, 3, NULL, got, NULL, NULL, &err));
    assert_memory_equal(got, wal_bytes(l.wal), LARGE);
    end_large(&l);
}

/* It was compressed already when the records contradicted it. */
static void
what_a_wrong_reading_gave_is_not_archived(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    large l;
    begin_large(&l, f);
    WA_CLEANUP(wa_freep) uint8_t *got = wa_malloc(LARGE);
    for (unsigned i = 0; i < 4; i++) {
        bool alone = i % 2 != 0; /* who reads compresses */
        f->push.pool = alone ? NULL : l.pool;
        f->push.room = alone ? &l.room : NULL;
        wrong_readings = 1 + i / 2; /* a frame at a time, and then as a whole */
        OK(push(f, SEG3, wal_bytes(l.wal), LARGE, &result, &err));
        assert_int_equal(wrong_readings, 0);
        assert_int_equal(result.outcome, i == 0 ? WA_PUT_CREATED : WA_PUT_SAME);
    }
    assert_true(result.checked);
    assert_string_equal(result.warning, "");
    OK(wa_wal_get(l.repo, &f->first, 3, NULL, got, NULL, NULL, &err));
    assert_memory_equal(got, wal_bytes(l.wal), LARGE);
    end_large(&l);
}

static void
what_was_compressed_of_a_segment_that_is_not_stored_goes_away(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    wa_wal_info info = {0};
    large l;
    begin_large(&l, f);
    f->push.stop_on_damage = true;
    wal_bytes_mutable(l.wal)[LARGE - 100000] ^= 4;
    FAILS(push(f, SEG3, wal_bytes(l.wal), LARGE, &result, &err), WA_CORRUPT);
    FAILS(push(f, "000000010000000000000004", wal_bytes(l.wal), LARGE, &result, &err), WA_CONFLICT);
    wal_bytes_mutable(l.wal)[LARGE - 100000] ^= 4;
    memset(wal_bytes_mutable(l.wal) + LARGE / 2, 0, LARGE / 2);
    OK(push(f, SEG3, wal_bytes(l.wal), LARGE, &result, &err));
    assert_string_equal(result.xxh3, "");
    FAILS(wa_wal_head(l.repo, &f->first, 3, &info, &err), WA_NOT_FOUND);
    end_large(&l);
}

/* Timestamps are coarse: only of a file that was at rest they tell that it is unchanged. */
static void
a_source_is_the_same_only_where_its_times_can_tell(void **state)
{
    fixture *f = *state;
    struct stat st;
    WA_CLEANUP(wa_freep) char *path = put_file(f, SEG3, "12345678", 8);
    WA_CLEANUP(wa_freep) char *beside = put_file(f, "beside", "12345678", 8);
    assert_int_equal(stat(path, &st), 0);
    st.st_ctim.tv_nsec = 500000000;
    struct timespec soon = {st.st_ctim.tv_sec, 699999999}, then = {st.st_ctim.tv_sec, 700000000};
    struct timespec before = {st.st_ctim.tv_sec - 10, 0};
    assert_false(wa_push_source_of(&st, soon).settled);
    assert_false(wa_push_source_of(&st, before).settled); /* a clock that was set back */
    assert_true(wa_push_source_of(&st, then).settled);
    st.st_ctim.tv_nsec = 0; /* a file system that counts seconds */
    then.tv_sec += 100;
    assert_false(wa_push_source_of(&st, then).settled);

    assert_int_equal(stat(path, &st), 0);
    wa_push_source source = wa_push_source_of(&st, then);
    source.settled = true;
    assert_true(wa_push_source_is(&source, path));
    assert_false(wa_push_source_is(&source, beside)); /* the same bytes, but who knows */
    source.settled = false;
    assert_false(wa_push_source_is(&source, path));
    source.settled = true;
    struct timespec times[2] = {{0, UTIME_OMIT}, {1, 1}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_false(wa_push_source_is(&source, path));
    assert_int_equal(unlink(path), 0);
    assert_false(wa_push_source_is(&source, path));
}

static void
junk_behind_a_switch_is_damage(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    wal_add_commit(b, 700, 1000);
    wal_add_switch(b);
    assert_int_equal(wal_size(b), SEGMENT);
    wal_bytes_mutable(b)[SEGMENT - 100] = 1;
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    assert_false(result.checked);
    assert_int_equal(count_keys(f, "wal/"), 1);
    assert_int_equal(count_keys(f, "tail/"), 0);
    wal_builder_free(b);
}

static void
an_unfinished_segment_becomes_a_chunk_that_grows(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    uint8_t *padded = wa_calloc(1, SEGMENT), *got = wa_calloc(1, SEGMENT);
    wa_lsn end = 0;
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    for (int i = 1; i <= 3; i++) {
        wal_fill_until(b, 3 * SEGMENT + (wa_lsn)i * 100000);
        memcpy(padded, wal_bytes(b), wal_size(b));
        OK(push(f, i == 2 ? SEG3 ".partial" : SEG3, padded, SEGMENT, &result, &err));
        assert_int_equal(result.outcome, WA_PUT_CREATED);
        OK(push(f, SEG3, padded, SEGMENT, &result, &err));
        assert_int_equal(result.outcome, WA_PUT_SAME);
        OK(wa_tail_assemble(f->repo, &f->first, 3, got, &end, NULL, &err));
        assert_true(end == wal_position(b));
        assert_memory_equal(got, padded, SEGMENT);
    }
    assert_int_equal(count_keys(f, "wal/"), 0);
    wal_builder *other = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    wal_add_commit(other, 999, 5);
    memset(padded, 0, SEGMENT);
    memcpy(padded, wal_bytes(other), wal_size(other));
    FAILS(push(f, SEG3, padded, SEGMENT, &result, &err), WA_CONFLICT);
    wal_builder_free(other);
    wal_builder_free(b);
    free(padded);
    free(got);
}

/* In chunks, then in a whole segment. */
static void
a_valid_part_that_is_there_is_acknowledged_when_it_lasts(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    WA_CLEANUP(wa_freep) uint8_t *padded = wa_calloc(1, SEGMENT);
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    wal_fill_until(b, 3 * SEGMENT + 100000);
    memcpy(padded, wal_bytes(b), wal_size(b));
    OK(push(f, SEG3, padded, SEGMENT, &result, &err));
    assert_int_equal(result.outcome, WA_PUT_CREATED);
    wa_store_fault_set(f->store, "settle", 1, 0, WA_FAULT_GONE); /* since it was seen */
    OK(push(f, SEG3, padded, SEGMENT, &result, &err));
    assert_int_equal(result.outcome, WA_PUT_SAME);
    for (int whole = 0; whole < 2; whole++) {
        wa_store_fault_set(f->store, "settle", 1, 0, WA_FAULT_FAIL);
        FAILS(push(f, SEG3, padded, SEGMENT, &result, &err), WA_UNAVAILABLE);
        wa_error_clear(&err);
        OK(push(f, SEG3, padded, SEGMENT, &result, &err));
        assert_int_equal(result.outcome, WA_PUT_SAME);
        wal_fill_segment(b);
        OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    }
    wal_builder_free(b);
}

static void
the_commit_that_crosses_a_boundary_counts_where_it_ends(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    wa_wal_facts *facts = wa_malloc(sizeof *facts);
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    wal_add_commit(b, 700, 1000);
    wal_fill_until(b, 4 * SEGMENT - 2000);
    while (4 * SEGMENT - wal_position(b) >= 32 + 8)
        wal_add_noise(b, 700, 32);
    wal_add_commit(b, 701, 2000); /* begins in 3, ends in 4 */
    assert_true(wal_position(b) > 4 * SEGMENT);
    assert_true(wal_prev(b) < 4 * SEGMENT);
    wal_fill_segment(b);
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    OK(push(f, "000000010000000000000004", wal_bytes(b) + SEGMENT, SEGMENT, &result, &err));
    OK(wa_wal_get_facts(f->repo, &f->first, 3, facts, NULL, &err));
    assert_int_equal(facts->commits, 1);
    OK(wa_wal_get_facts(f->repo, &f->first, 4, facts, NULL, &err));
    assert_int_equal(facts->commits, 1);
    assert_true(facts->last_time == 2000);
    assert_false(facts->overflow);
    wa_freep(&facts);
    wal_builder_free(b);
}

/* Whoever looks for damage must not pass over segments without records. */
static void
of_a_segment_that_a_bad_record_leads_into_no_record_is_known(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    wa_wal_info info = {0};
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    wal_add_commit(b, 700, 1000);
    wal_fill_until(b, 4 * SEGMENT - 1000);
    while (wal_position(b) < 4 * SEGMENT)
        wal_add_noise(b, 700, 600);
    wal_add_commit(b, 701, 2000);
    wal_fill_segment(b);
    wal_bytes_mutable(b)[SEGMENT + 60] ^= 4;
    OK(push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err));
    assert_true(result.checked);
    OK(push(f, "000000010000000000000004", wal_bytes(b) + SEGMENT, SEGMENT, &result, &err));
    OK(wa_wal_get_facts(f->repo, &f->first, 4, facts, &info, &err));
    assert_false(info.checked);
    assert_int_equal(facts->records, 0);
    assert_true(facts->overflow);
    wal_builder_free(b);
}

/* Segment 3 of timeline 2, forked at 0/341000; the first record tells the branches apart. */
static wal_builder *
promoted_segment(wa_time when)
{
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 3 * SEGMENT});
    wal_fill_until(b, FORK - 2000);
    wal_add_noise(b, 0, (uint32_t)(FORK - wal_position(b)));
    assert_true(wal_position(b) == FORK);
    wal_set_tli(b, 2);
    wal_add_end_of_recovery(b, 2, 1, when);
    wal_fill_segment(b);
    return b;
}

static void
a_history_waits_until_its_first_record_names_the_branch(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    WA_CLEANUP(wa_strv_done) wa_strv pending = {0};
    wa_branch *branches = NULL;
    size_t count = 0;
    OK(push(f, "00000002.history", HISTORY, strlen(HISTORY), &result, &err));
    OK(wa_history_pending(f->repo, 2, &pending, &err));
    assert_int_equal(pending.count, 1);
    for (wa_time when = 1; when <= 2; when++) {
        wal_builder *b = promoted_segment(when);
        OK(push(f, "000000020000000000000003", wal_bytes(b), SEGMENT, &result, &err));
        assert_int_equal(result.branch.tli, 2);
        wal_builder_free(b);
    }
    OK(wa_branches_of(f->repo, 2, &branches, &count, &err));
    assert_int_equal(count, 2);
    free(branches);
    OK(wa_history_pending(f->repo, 2, &pending, &err));
    assert_int_equal(pending.count, 0);
    assert_int_equal(count_keys(f, "quarantine/"), 0);
    OK(push(f, "00000002.history", HISTORY, strlen(HISTORY), &result, &err));
    assert_int_equal(count_keys(f, "timeline/"), 2);
}

static void
a_timeline_without_a_history_is_refused_with_a_hint(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result result = {0};
    wal_builder *b = promoted_segment(1);
    FAILS(push(f, "000000020000000000000003", wal_bytes(b), SEGMENT, &result, &err), WA_FAILED);
    assert_non_null(strstr(err.hint, "00000002.history"));
    wal_builder_free(b);
}

static void
a_later_segment_finds_its_branch_by_the_local_fork_segment(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    wa_push_result first = {0}, second = {0};
    wal_builder *b = promoted_segment(1);
    wal_fill_segment(b);
    free(put_file(f, "00000002.history", HISTORY, strlen(HISTORY)));
    OK(push(f, "000000020000000000000003", wal_bytes(b), SEGMENT, &first, &err));
    OK(push(f, "000000020000000000000004", wal_bytes(b) + SEGMENT, SEGMENT, &second, &err));
    assert_true(wa_branch_eq(&first.branch, &second.branch));
    wal_builder_free(b);
}

static void
nothing_is_said_to_be_archived_when_the_store_fails(void **state)
{
    fixture *f = *state;
    wal_builder *b = full_segment(700);
    for (unsigned nth = 1;; nth++) {
        wa_error err = WA_ERROR_INIT;
        wa_push_result result = {0};
        wa_wal_info info = {0};
        wa_store_fault_set(f->store, "any", nth, 1, WA_FAULT_FAIL);
        wa_status status = push(f, SEG3, wal_bytes(b), SEGMENT, &result, &err);
        wa_store_fault_set(f->store, "any", 0, 0, WA_FAULT_FAIL);
        if (status == WA_OK) {
            OK(wa_wal_head(f->repo, &f->first, 3, &info, &err));
            break;
        }
        assert_int_equal(status, WA_UNAVAILABLE);
        assert_true(nth < 20);
    }
    wal_builder_free(b);
}

static void
ready_files_are_listed_in_order_behind_a_name(void **state)
{
    fixture *f = *state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv ready = {0};
    WA_CLEANUP(wa_freep) char *status_dir = wa_path_join(f->wal_dir, "archive_status");
    static const char *const names[] = {
        "000000010000000000000007.ready", "000000010000000000000005.ready",
        "000000010000000000000006.done",  "000000010000000000000003.ready",
        "00000002.history.ready",         "000000010000000000000004.ready"};
    OK(wa_mkdir_p(status_dir, 0700, &err));
    for (size_t i = 0; i < WA_ARRAY_SIZE(names); i++) {
        WA_CLEANUP(wa_freep) char *path = wa_path_join(status_dir, names[i]);
        OK(wa_file_write(path, "", 0, 0600, WA_WRITE_CREATE, &err));
    }
    OK(wa_push_ready_after(f->wal_dir, SEG3, 2, &ready, &err));
    assert_int_equal(ready.count, 2);
    assert_string_equal(ready.items[0], "000000010000000000000004");
    assert_string_equal(ready.items[1], "000000010000000000000005");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_segment_is_stored_once_and_the_same_again_is_fine),
        TEST(other_content_is_a_conflict_and_is_kept),
        TEST(settled_content_is_accepted_with_a_warning_and_no_other),
        TEST(a_segment_that_is_there_is_asked_for_and_not_sent_again),
        TEST(what_was_streamed_is_compared_and_not_sent_again),
        TEST(nothing_is_written_before_its_turn),
        TEST(a_room_is_given_back_when_all_is_compressed),
        TEST(that_its_name_is_taken_is_not_found_before_its_turn),
        TEST(what_is_not_the_segment_of_its_name_is_refused),
        TEST(damage_is_archived_unchecked_or_refused_as_configured),
        TEST(what_is_compressed_before_it_is_checked_is_what_was_pushed),
        TEST(what_a_wrong_reading_gave_is_not_archived),
        TEST(what_was_compressed_of_a_segment_that_is_not_stored_goes_away),
        TEST(a_source_is_the_same_only_where_its_times_can_tell),
        TEST(junk_behind_a_switch_is_damage),
        TEST(an_unfinished_segment_becomes_a_chunk_that_grows),
        TEST(a_valid_part_that_is_there_is_acknowledged_when_it_lasts),
        TEST(of_a_segment_that_a_bad_record_leads_into_no_record_is_known),
        TEST(the_commit_that_crosses_a_boundary_counts_where_it_ends),
        TEST(a_history_waits_until_its_first_record_names_the_branch),
        TEST(a_timeline_without_a_history_is_refused_with_a_hint),
        TEST(a_later_segment_finds_its_branch_by_the_local_fork_segment),
        TEST(nothing_is_said_to_be_archived_when_the_store_fails),
        TEST(ready_files_are_listed_in_order_behind_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
