/*
 * test_spool.c - segment files: appended in order, found again, cut at their valid end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "spool_internal.h"
#include "wal_builder.h"

#include "walagent/base/file.h"
#include "walagent/codec/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENT (1024u * 1024)
#define SYSTEM 7000000000000000001u

static const wa_branch BRANCH = {.tli = 1, .id = "0a1b2c3d"};

typedef struct fixture {
    char dir[64];
    wa_spool *spool;
    wa_error err;
} fixture;

static int
setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/wa-spool-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(wa_spool_open(f->dir, SEGMENT, &f->spool, &f->err), WA_OK);
    *state = f;
    return 0;
}

static int
teardown(void **state)
{
    fixture *f = *state;
    wa_spool_free(f->spool);
    assert_int_equal(wa_remove_tree(f->dir, &f->err), WA_OK);
    free(f);
    return 0;
}

/* As the next process would find it. */
static void
reopen(fixture *f)
{
    wa_spool_free(f->spool);
    f->spool = NULL;
    assert_int_equal(wa_spool_open(f->dir, SEGMENT, &f->spool, &f->err), WA_OK);
}

static void
spool_bytes_of(fixture *f, const wa_branch *branch, wa_segno segno, const uint8_t *data, size_t len)
{
    uint64_t size = 0;
    assert_int_equal(wa_spool_begin(f->spool, branch, segno, &size, &f->err), WA_OK);
    for (size_t done = 0; done < len;) {
        size_t n = len - done < 7000 ? len - done : 7000;
        assert_int_equal(wa_spool_append(f->spool, size + done, data + done, n, &f->err), WA_OK);
        done += n;
    }
    assert_int_equal(wa_spool_sync(f->spool, &f->err), WA_OK);
}

/* Three segments of WAL in the spool, the last one ends somewhere inside. */
static wal_builder *
spool_three(fixture *f)
{
    wal_builder *b = wal_builder_new(NULL);
    wal_fill_segment(b);
    wal_add_commit(b, 700, 1000);
    wal_fill_segment(b);
    wal_add_commit(b, 701, 2000);
    wal_add_noise(b, 702, 30000);
    for (size_t done = 0; done < wal_size(b); done += SEGMENT) {
        size_t len = wal_size(b) - done < SEGMENT ? wal_size(b) - done : SEGMENT;
        spool_bytes_of(f, &BRANCH, 1 + done / SEGMENT, wal_bytes(b) + done, len);
    }
    return b;
}

static void
files_are_found_again_in_order(void **state)
{
    fixture *f = *state;
    wa_branch nameless = {.tli = 2};
    spool_bytes_of(f, &nameless, 9, (const uint8_t *)"child", 5);
    spool_bytes_of(f, &BRANCH, 8, (const uint8_t *)"eight", 5);
    spool_bytes_of(f, &BRANCH, 7, (const uint8_t *)"seventh", 7);
    reopen(f);
    assert_int_equal(wa_spool_bytes(f->spool), 17);
    WA_CLEANUP(wa_freep) wa_spool_file *files = NULL;
    size_t count = 0;
    assert_int_equal(wa_spool_list(f->spool, &files, &count, &f->err), WA_OK);
    assert_int_equal(count, 3);
    assert_int_equal(files[0].segno, 7);
    assert_true(wa_branch_eq(&files[0].branch, &BRANCH));
    assert_int_equal(files[1].segno, 8);
    assert_int_equal(files[2].branch.tli, 2);
    assert_string_equal(files[2].branch.id, "");
    char text[5];
    assert_int_equal(wa_spool_read(f->spool, &BRANCH, 7, 2, text, 5, &f->err), WA_OK);
    assert_memory_equal(text, "venth", 5);
}

static void
a_second_owner_is_refused(void **state)
{
    fixture *f = *state;
    wa_spool *other = NULL;
    assert_int_equal(wa_spool_open(f->dir, SEGMENT, &other, &f->err), WA_CONFLICT);
    assert_null(other);
}

static void
reading_past_the_end_is_an_error(void **state)
{
    fixture *f = *state;
    char text[8];
    spool_bytes_of(f, &BRANCH, 7, (const uint8_t *)"seven", 5);
    assert_int_equal(wa_spool_read(f->spool, &BRANCH, 7, 0, text, 6, &f->err), WA_CORRUPT);
    assert_int_equal(wa_spool_read(f->spool, &BRANCH, 6, 0, text, 1, &f->err), WA_NOT_FOUND);
}

static void
removing_gives_the_room_back(void **state)
{
    fixture *f = *state;
    spool_bytes_of(f, &BRANCH, 7, (const uint8_t *)"seven", 5);
    spool_bytes_of(f, &BRANCH, 8, (const uint8_t *)"eight!", 6);
    assert_int_equal(wa_spool_remove(f->spool, &BRANCH, 7, &f->err), WA_OK);
    assert_int_equal(wa_spool_remove(f->spool, &BRANCH, 7, &f->err), WA_OK);
    assert_int_equal(wa_spool_bytes(f->spool), 6);
    wa_spool_end(f->spool);
    assert_int_equal(wa_spool_truncate(f->spool, &BRANCH, 8, 2, &f->err), WA_OK);
    assert_int_equal(wa_spool_bytes(f->spool), 2);
}

static void
nameless_files_get_their_branch_while_they_grow(void **state)
{
    fixture *f = *state;
    wa_branch nameless = {.tli = 2}, named = {.tli = 2, .id = "deadbeef"};
    spool_bytes_of(f, &nameless, 9, (const uint8_t *)"child", 5);
    assert_int_equal(wa_spool_name_branch(f->spool, &named, &f->err), WA_OK);
    assert_int_equal(wa_spool_append(f->spool, 5, "ren", 3, &f->err), WA_OK);
    assert_int_equal(wa_spool_sync(f->spool, &f->err), WA_OK);
    char text[8];
    assert_int_equal(wa_spool_read(f->spool, &named, 9, 0, text, 8, &f->err), WA_OK);
    assert_memory_equal(text, "children", 8);
    uint64_t size;
    assert_int_equal(wa_spool_size(f->spool, &nameless, 9, &size, &f->err), WA_NOT_FOUND);
}

typedef struct seen {
    size_t count;
    wa_segno segno[8];
    uint64_t commits[8], rest_commits[8];
    bool parsed[8];
} seen;

static wa_status
see(void *arg, wa_segno segno, bool parsed, const wa_wal_facts *facts, const wa_wal_facts *rest,
    const char *xxh3, wa_error *err)
{
    seen *s = arg;
    (void)err;
    s->parsed[s->count] = parsed;
    assert_int_equal(strlen(xxh3), WA_XXH_HEX - 1);
    s->segno[s->count] = segno;
    s->commits[s->count] = facts->commits;
    s->rest_commits[s->count++] = rest->commits;
    return WA_OK;
}

static void
the_walk_finds_whole_segments_and_the_valid_end(void **state)
{
    fixture *f = *state;
    wal_builder *b = spool_three(f);
    seen s = {0};
    wa_spool_calls calls = {.segment = see, .arg = &s};
    wa_spool_end_info info;
    assert_int_equal(
        wa_spool_walk(f->spool, &BRANCH, 1, 2 * SEGMENT + 8192, SYSTEM, &calls, &info, &f->err),
        WA_OK);
    assert_true(s.parsed[0] && s.parsed[1]);
    assert_int_equal(s.count, 2);
    assert_int_equal(s.segno[1], 2);
    assert_int_equal(s.commits[1], 1);
    assert_int_equal(s.rest_commits[1], 0);
    assert_int_equal(info.end, wal_position(b));
    assert_int_equal(info.prev, wal_prev(b));
    assert_int_equal(info.surplus, 0);
    assert_int_equal(info.segment.commits, 1);
    wal_builder_free(b);
}

static void
a_torn_tail_ends_at_the_last_whole_record(void **state)
{
    fixture *f = *state;
    wal_builder *b = spool_three(f);
    uint64_t last = wal_size(b) - 2 * SEGMENT;
    wa_spool_end(f->spool);
    for (uint64_t cut = 1; cut < 30000; cut += 977) {
        wa_spool_end_info info;
        assert_int_equal(wa_spool_truncate(f->spool, &BRANCH, 3, last - cut, &f->err), WA_OK);
        assert_int_equal(wa_spool_walk(f->spool, &BRANCH, 1, 0, SYSTEM, NULL, &info, &f->err),
                         WA_OK);
        assert_int_equal(info.end, wal_prev(b));
        assert_int_equal(info.end + info.surplus, 3 * SEGMENT + last - cut);
    }
    wal_builder_free(b);
}

static void
zeroes_behind_the_end_are_not_believed(void **state)
{
    fixture *f = *state;
    wal_builder *b = spool_three(f);
    static const uint8_t zeroes[9000];
    wa_spool_end_info info;
    uint64_t last = wal_size(b) - 2 * SEGMENT;
    assert_int_equal(wa_spool_append(f->spool, last, zeroes, sizeof zeroes, &f->err), WA_OK);
    assert_int_equal(wa_spool_walk(f->spool, &BRANCH, 1, 0, SYSTEM, NULL, &info, &f->err), WA_OK);
    assert_int_equal(info.end, wal_position(b));
    assert_int_equal(info.surplus, sizeof zeroes);
    wal_builder_free(b);
}

static void
a_flipped_bit_ends_the_walk_before_its_record(void **state)
{
    fixture *f = *state;
    wal_builder *b = wal_builder_new(NULL);
    wal_add_noise(b, 1, 5000);
    wa_lsn second = wal_add_noise(b, 2, 5000);
    wal_add_noise(b, 3, 5000);
    wal_bytes_mutable(b)[second - SEGMENT + 100] ^= 0x10;
    spool_bytes_of(f, &BRANCH, 1, wal_bytes(b), wal_size(b));
    wa_spool_end_info info;
    assert_int_equal(wa_spool_walk(f->spool, &BRANCH, 1, 0, SYSTEM, NULL, &info, &f->err), WA_OK);
    assert_int_equal(info.end, second);
    wal_builder_free(b);
}

static void
an_empty_spool_ends_where_it_begins(void **state)
{
    fixture *f = *state;
    wa_spool_end_info info;
    assert_int_equal(wa_spool_walk(f->spool, &BRANCH, 5, 0, SYSTEM, NULL, &info, &f->err), WA_OK);
    assert_int_equal(info.end, 5 * SEGMENT);
    assert_int_equal(info.surplus, 0);
}

/* ---- a commit that crosses into the walk's first segment ---- */

typedef struct before {
    const wal_builder *wal; /* from segment 1 on */
    wa_status status;
    unsigned asked;
} before;

static wa_status
give_before(void *arg, wa_segno segno, uint8_t *out, wa_error *err)
{
    before *b = arg;
    b->asked++;
    assert_int_equal(segno, 1);
    if (b->status != WA_OK)
        return wa_error_set(err, b->status, "not to be had");
    memcpy(out, wal_bytes(b->wal), SEGMENT);
    return WA_OK;
}

/* Its second segment is in the spool. A commit begins in the first one and ends in the second,
 * where another one follows. */
static wal_builder *
spool_crossing(fixture *f)
{
    wal_builder *b = wal_builder_new(NULL);
    wal_fill_until(b, 2 * SEGMENT - 3000);
    wa_lsn last = 0;
    while (wal_position(b) < 2 * SEGMENT)
        last = wal_add_commit(b, 700, 1000);
    assert_true(last < 2 * SEGMENT && wal_position(b) > 2 * SEGMENT);
    wal_add_commit(b, 701, 2000);
    wal_add_noise(b, 702, 30000);
    spool_bytes_of(f, &BRANCH, 2, wal_bytes(b) + SEGMENT, wal_size(b) - SEGMENT);
    return b;
}

static void
a_record_across_the_walks_beginning_counts_where_it_ends(void **state)
{
    fixture *f = *state;
    wal_builder *b = spool_crossing(f);
    before arg = {.wal = b};
    wa_spool_calls calls = {.before = give_before, .arg = &arg};
    wa_spool_end_info info;
    assert_int_equal(
        wa_spool_walk(f->spool, &BRANCH, 2, 2 * SEGMENT, SYSTEM, &calls, &info, &f->err), WA_OK);
    assert_int_equal(arg.asked, 1);
    assert_int_equal(info.end, wal_position(b));
    assert_int_equal(info.segment.commits, 2);
    assert_int_equal(info.segment.min_time, 1000);
    assert_int_equal(info.rest.commits, 2);
    assert_false(info.segment.overflow);
    /* What a chunk holds already is none of the rest. */
    assert_int_equal(
        wa_spool_walk(f->spool, &BRANCH, 2, 2 * SEGMENT + 4096, SYSTEM, &calls, &info, &f->err),
        WA_OK);
    assert_int_equal(info.segment.commits, 2);
    assert_int_equal(info.rest.commits, 0);
    wal_builder_free(b);
}

static void
facts_without_the_record_across_the_beginning_say_so(void **state)
{
    fixture *f = *state;
    wal_builder *b = spool_crossing(f);
    before arg = {.wal = b, .status = WA_NOT_FOUND};
    wa_spool_calls calls = {.before = give_before, .arg = &arg};
    wa_spool_end_info info;
    for (int i = 0; i < 3; i++) {
        arg.status = i == 0 ? WA_NOT_FOUND : WA_CORRUPT;
        assert_int_equal(wa_spool_walk(f->spool, &BRANCH, 2, 2 * SEGMENT, SYSTEM,
                                       i == 2 ? NULL : &calls, &info, &f->err),
                         WA_OK);
        assert_int_equal(info.end, wal_position(b));
        assert_int_equal(info.segment.commits, 1);
        assert_true(info.segment.overflow && info.rest.overflow);
    }
    arg.status = WA_UNAVAILABLE; /* tried again later */
    assert_int_equal(
        wa_spool_walk(f->spool, &BRANCH, 2, 2 * SEGMENT, SYSTEM, &calls, &info, &f->err),
        WA_UNAVAILABLE);
    wal_builder_free(b);
}

static void
segments_of_an_unknown_major_are_found_unparsed(void **state)
{
    fixture *f = *state;
    wal_builder *b = wal_builder_new(&(wal_builder_options){.magic = 0xD1FF});
    seen s = {0};
    wa_spool_calls calls = {.segment = see, .arg = &s};
    wa_spool_end_info info;
    wal_fill_segment(b);
    spool_bytes_of(f, &BRANCH, 1, wal_bytes(b), SEGMENT);
    assert_int_equal(wa_spool_walk(f->spool, &BRANCH, 1, 0, SYSTEM, &calls, &info, &f->err), WA_OK);
    assert_int_equal(s.count, 1);
    assert_false(s.parsed[0]);
    wal_builder_free(b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_are_found_again_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_owner_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(reading_past_the_end_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(removing_gives_the_room_back, setup, teardown),
        cmocka_unit_test_setup_teardown(nameless_files_get_their_branch_while_they_grow, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(the_walk_finds_whole_segments_and_the_valid_end, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_torn_tail_ends_at_the_last_whole_record, setup, teardown),
        cmocka_unit_test_setup_teardown(zeroes_behind_the_end_are_not_believed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_record_across_the_walks_beginning_counts_where_it_ends,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(facts_without_the_record_across_the_beginning_say_so, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(segments_of_an_unknown_major_are_found_unparsed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_flipped_bit_ends_the_walk_before_its_record, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_empty_spool_ends_where_it_begins, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
