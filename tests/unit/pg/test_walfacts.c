/*
 * Unit tests of pg/walfacts.c, walfacts_json.c and xact_record.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "walagent/base/bytes.h"
#include "walagent/pg/walfacts.h"

#include "wal_builder.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define T0 INT64_C(800000000000000)
#define SECOND INT64_C(1000000)

WA_DEFINE_CLEANUP(wal_builder, wal_builder_free)
#define BUILDER WA_CLEANUP(wal_builder_freep) wal_builder *

static wa_status
add_facts(void *arg, const wa_record *record, wa_error *err)
{
    (void)err;
    wa_wal_facts_add(arg, record);
    return WA_OK;
}

static wa_status
read_xact(void *arg, const wa_record *record, wa_error *err)
{
    if (!wa_record_xact_end(record, arg))
        return wa_error_set(err, WA_FAILED, "no end of a transaction");
    return WA_OK;
}

static wa_status
read_wal(const wal_builder *b, wa_record_fn fn, void *arg)
{
    WA_CLEANUP(wa_walreader_freep) wa_walreader *r = wa_walreader_new(MIB);
    wa_error err = WA_ERROR_INIT;

    wa_walreader_start(r, MIB, 0);
    return wa_walreader_feed(r, wal_bytes(b), wal_size(b), fn, arg, NULL, &err);
}

/* The facts of a builder's WAL; owned by the caller. */
static wa_wal_facts *
facts_of(const wal_builder *b)
{
    wa_wal_facts *f = wa_malloc(sizeof *f);

    wa_wal_facts_init(f);
    assert_int_equal(read_wal(b, add_facts, f), WA_OK);
    return f;
}

static wal_builder *
small_wal(void)
{
    wal_builder *b = wal_builder_new(NULL);

    wal_add_checkpoint(b, true, MIB + 40, 2, 1, T0 - 5 * SECOND);
    wal_add_noise(b, 800, 100);
    wal_add_commit(b, 801, T0 + 3);
    wal_add_commit(b, 790, T0 + 1);
    wal_add_abort(b, 802, T0 + 7);
    wal_add_commit_prepared(b, 777, T0 + 5);
    wal_add_restore_point(b, "before-import", T0 + 6);
    wal_add_checkpoint(b, false, MIB + 80, 2, 2, T0);
    wal_add_end_of_recovery(b, 3, 2, T0 + 8);
    return b;
}

static void
facts_say_what_the_wal_holds(void **state)
{
    (void)state;
    BUILDER b = small_wal();
    WA_CLEANUP(wa_freep) wa_wal_facts *f = facts_of(b);

    assert_int_equal(f->records, 9);
    assert_int_equal(f->commits, 3);
    assert_int_equal(f->aborts, 1);
    assert_true(f->min_time == T0 + 1 && f->max_time == T0 + 7 && f->last_time == T0 + 5);
    assert_int_equal(f->min_xid, 777);
    assert_int_equal(f->max_xid, 802);
    assert_true(f->first_record == MIB + 40 && f->last_record == wal_prev(b));
    assert_true(f->last_end == wal_position(b));
    assert_int_equal(f->restore_point_count, 1);
    assert_string_equal(f->restore_points[0].name, "before-import");
    assert_true(f->restore_points[0].time == T0 + 6);
    assert_int_equal(f->checkpoint_count, 2);
    assert_true(f->checkpoints[0].shutdown && !f->checkpoints[1].shutdown);
    assert_true(f->checkpoints[0].redo == MIB + 40 && f->checkpoints[0].time == T0 - 5 * SECOND);
    assert_int_equal(f->checkpoints[0].tli, 2);
    assert_int_equal(f->checkpoints[0].prev_tli, 1);
    assert_false(f->switched || f->overflow);
    wal_add_switch(b);
    WA_CLEANUP(wa_freep) wa_wal_facts *switched = facts_of(b);
    assert_true(switched->switched);
}

static void
xids_are_ordered_round_the_wrap(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wal_add_commit(b, 0xfffffff0u, T0);
    wal_add_commit(b, 5, T0);
    wal_add_noise(b, 2, 100); /* not a normal xid */
    WA_CLEANUP(wa_freep) wa_wal_facts *f = facts_of(b);

    assert_int_equal(f->min_xid, 0xfffffff0u);
    assert_int_equal(f->max_xid, 5);
}

static uint64_t
next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 33;
}

/* xids in a window that may lie across the wrap, joined in any order and any grouping: the range
 * is exactly theirs while the window is below 2^31, and never leaves one of them out. */
static void
a_range_of_xids_holds_what_was_added_and_no_more(void **state)
{
    (void)state;
    uint64_t seed = 20261127;
    unsigned unknown = 0, wrapped = 0;
    print_message("seed %" PRIu64 "\n", seed);
    for (int round = 0; round < 20000; round++) {
        uint32_t base = (uint32_t)next_random(&seed) * 2 + 3, xids[12];
        uint64_t width = UINT64_C(1) << (1 + next_random(&seed) % 32);
        uint64_t low = UINT64_MAX, high = 0;
        uint32_t min[3] = {0}, max[3] = {0};
        bool known = true;
        for (size_t i = 0; i < WA_ARRAY_SIZE(xids); i++) {
            uint64_t offset = (next_random(&seed) << 20 ^ next_random(&seed)) % width;
            low = offset < low ? offset : low;
            high = offset > high ? offset : high;
            xids[i] = base + (uint32_t)offset;
            size_t group = next_random(&seed) % 2;
            known = known && wa_xid_range_add(&min[group], &max[group], xids[i], xids[i]);
        }
        for (size_t group = 0; group < 2; group++)
            if (min[group] != 0)
                known = known && wa_xid_range_add(&min[2], &max[2], min[group], max[group]);
        if (high - low < UINT64_C(1) << 31) {
            assert_true(known);
            assert_true(min[2] == base + (uint32_t)low && max[2] == base + (uint32_t)high);
            assert_false(wa_xid_range_has(min[2], max[2], min[2] - 1));
            assert_false(wa_xid_range_has(min[2], max[2], max[2] + 1));
        }
        for (size_t i = 0; known && i < WA_ARRAY_SIZE(xids); i++)
            assert_true(wa_xid_range_has(min[2], max[2], xids[i]));
        unknown += !known;
        wrapped += known && max[2] < min[2];
    }
    assert_true(unknown > 100 && wrapped > 100);
}

static void
xids_too_far_apart_for_an_order_make_facts_say_read_the_records(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wal_add_commit(b, 3, T0);
    wal_add_commit(b, 0x80000002u, T0);
    WA_CLEANUP(wa_freep) wa_wal_facts *f = facts_of(b);
    assert_true(f->overflow == false && f->min_xid == 3 && f->max_xid == 0x80000002u);
    wal_add_commit(b, 0x80000003u, T0);
    WA_CLEANUP(wa_freep) wa_wal_facts *wide = facts_of(b);
    assert_true(wide->overflow);
}

static void
facts_of_pieces_merge_to_facts_of_the_whole(void **state)
{
    (void)state;
    BUILDER b = small_wal();
    WA_CLEANUP(wa_freep) wa_wal_facts *whole = facts_of(b);

    /* Cut behind each byte; the second piece is read on by the same reader. */
    for (size_t cut = 0; cut <= wal_size(b); cut += 13) {
        WA_CLEANUP(wa_walreader_freep) wa_walreader *r = wa_walreader_new(MIB);
        WA_CLEANUP(wa_freep) wa_wal_facts *first = wa_malloc(sizeof *first);
        WA_CLEANUP(wa_freep) wa_wal_facts *second = wa_malloc(sizeof *second);
        wa_error err = WA_ERROR_INIT;
        wa_wal_facts_init(first);
        wa_wal_facts_init(second);
        wa_walreader_start(r, MIB, 0);
        assert_int_equal(wa_walreader_feed(r, wal_bytes(b), cut, add_facts, first, NULL, &err),
                         WA_OK);
        assert_int_equal(wa_walreader_feed(r, wal_bytes(b) + cut, wal_size(b) - cut, add_facts,
                                           second, NULL, &err),
                         WA_OK);
        wa_wal_facts_merge(first, second);
        WA_CLEANUP(wa_json_freep) json_t *merged = wa_wal_facts_to_json(first);
        WA_CLEANUP(wa_json_freep) json_t *expected = wa_wal_facts_to_json(whole);
        assert_true(json_equal(merged, expected));
    }
}

static void
json_and_back_is_the_same(void **state)
{
    (void)state;
    BUILDER b = small_wal();
    WA_CLEANUP(wa_freep) wa_wal_facts *f = facts_of(b);
    WA_CLEANUP(wa_freep) wa_wal_facts *back = wa_malloc(sizeof *back);
    WA_CLEANUP(wa_json_freep) json_t *json = wa_wal_facts_to_json(f);
    wa_error err = WA_ERROR_INIT;

    assert_int_equal(wa_wal_facts_from_json(json, "x", back, &err), WA_OK);
    assert_int_equal(back->records, f->records);
    assert_true(back->min_time == f->min_time && back->last_time == f->last_time);
    assert_true(back->last_end == f->last_end && back->max_xid == f->max_xid);
    assert_int_equal(back->checkpoint_count, 2);
    assert_true(back->checkpoints[0].shutdown && back->checkpoints[0].redo == MIB + 40);
    assert_true(back->checkpoints[1].time == T0 && back->checkpoints[1].prev_tli == 2);
    assert_string_equal(back->restore_points[0].name, "before-import");
    assert_true(back->restore_points[0].end == f->restore_points[0].end);
    WA_CLEANUP(wa_json_freep) json_t *again = wa_wal_facts_to_json(back);
    assert_true(json_equal(json, again));

    wa_wal_facts_init(f);
    WA_CLEANUP(wa_json_freep) json_t *empty = wa_wal_facts_to_json(f);
    assert_int_equal(wa_wal_facts_from_json(empty, "x", back, &err), WA_OK);
    assert_true(back->min_time == WA_TIME_NONE && back->first_record == 0);
}

static void
json_stays_within_its_room(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    char name[64];
    memset(name, '\x01', 63); /* six bytes each in JSON */
    name[63] = '\0';
    for (int i = 0; i < 70; i++) {
        wal_add_restore_point(b, name, T0);
        wal_add_checkpoint(b, false, MIB, 1, 1, T0);
    }
    WA_CLEANUP(wa_freep) wa_wal_facts *f = facts_of(b);
    assert_true(f->overflow);
    assert_int_equal(f->restore_point_count, WA_FACTS_POINTS);

    f->overflow = false;
    WA_CLEANUP(wa_json_freep) json_t *json = wa_wal_facts_to_json(f);
    WA_CLEANUP(wa_freep) char *text = wa_json_dump(json, 0);
    assert_true(strlen(text) <= 12288);
    assert_true(wa_json_bool_or(json, "overflow", false));
    assert_true(json_array_size(json_object_get(json, "restore_points")) > 10);
}

static void
damaged_json_is_corrupt(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{}",
        "[]",
        "{\"records\":1,\"commits\":0,\"aborts\":\"x\"}",
        "{\"records\":1,\"commits\":0,\"aborts\":0,\"last_end\":\"0-1\"}",
        "{\"records\":1,\"commits\":0,\"aborts\":0,\"last_end\":7}",
        "{\"records\":1,\"commits\":0,\"aborts\":0,\"min_xid\":4294967296}",
        "{\"records\":1,\"commits\":0,\"aborts\":0,\"min_time\":\"x\"}",
        "{\"records\":1,\"commits\":0,\"aborts\":0,\"restore_points\":[{}]}",
        "{\"records\":1,\"commits\":0,\"aborts\":0,\"restore_points\":[1]}",
    };
    for (size_t i = 0; i < WA_ARRAY_SIZE(bad); i++) {
        WA_CLEANUP(wa_json_freep) json_t *json = json_loads(bad[i], 0, NULL);
        WA_CLEANUP(wa_freep) wa_wal_facts *f = wa_malloc(sizeof *f);
        wa_error err = WA_ERROR_INIT;
        assert_non_null(json);
        if (wa_wal_facts_from_json(json, "wal/7", f, &err) != WA_CORRUPT)
            print_error("%s\n", bad[i]);
        assert_int_equal(err.status, WA_CORRUPT);
        assert_non_null(strstr(err.message, "wal/7"));
    }
}

/* Main data of a transaction's end with everything that can be in it. */
static size_t
full_xact(uint8_t *d, uint32_t relations, size_t stats_size, bool invals)
{
    size_t at = 0;

#define PUT32(v) (wa_put_u32le(d + at, (uint32_t)(v)), at += 4)
    wa_put_u64le(d, (uint64_t)(T0 + 42));
    at = 8;
    PUT32(0x1ff & ~(invals ? 0u : 8u));
    PUT32(5), PUT32(1663); /* database */
    PUT32(3), PUT32(901), PUT32(902), PUT32(903);
    PUT32(relations);
    for (uint32_t i = 0; i < relations; i++)
        PUT32(1663), PUT32(5), PUT32(20000 + i);
    PUT32(2);
    memset(d + at, 0x77, 2 * stats_size);
    at += 2 * stats_size;
    if (invals) {
        PUT32(3);
        memset(d + at, 0x55, 48);
        at += 48;
    }
    PUT32(4711);
    memcpy(d + at, "name", 5);
    at += 5;
    memset(d + at, 0x33, 16); /* origin */
    return at + 16;
#undef PUT32
}

static void
ends_of_transactions_are_decoded_for_each_major(void **state)
{
    (void)state;
    static const struct {
        uint16_t magic;
        size_t stats_size;
    } majors[] = {{WAL_MAGIC_15, 12}, {WAL_MAGIC_16, 12}, {WAL_MAGIC_17, 12}, {WAL_MAGIC_18, 16}};
    static const struct {
        uint8_t info;
        bool commit, prepared;
    } kinds[] = {
        {0x80, true, false}, {0xA0, false, false}, {0xB0, true, true}, {0xC0, false, true}};
    uint8_t data[4096];

    for (size_t m = 0; m < WA_ARRAY_SIZE(majors); m++)
        for (size_t k = 0; k < WA_ARRAY_SIZE(kinds); k++) {
            BUILDER b = wal_builder_new(&(wal_builder_options){.magic = majors[m].magic});
            size_t len = full_xact(data, 40, majors[m].stats_size, kinds[k].commit);
            wal_add(b, 1, kinds[k].info, 900, data, len);
            wa_xact_end x;
            assert_int_equal(read_wal(b, read_xact, &x), WA_OK);
            assert_int_equal(x.commit, kinds[k].commit);
            assert_int_equal(x.prepared, kinds[k].prepared);
            assert_int_equal(x.xid, kinds[k].prepared ? 4711 : 900);
            assert_true(x.time == T0 + 42);
            assert_int_equal(x.dropped_count, 40);
            assert_int_equal(x.dropped[31].rel, 20031);
            assert_int_equal(x.dropped[0].db, 5);
        }
}

static void
a_huge_commit_keeps_its_time(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) uint8_t *data = wa_calloc(1, 400000);
    BUILDER b = wal_builder_new(NULL);
    size_t len = full_xact(data, 30000, 12, true);
    wal_add(b, 1, 0xB0, 0, data, len);
    wa_xact_end x;

    assert_int_equal(read_wal(b, read_xact, &x), WA_OK);
    assert_true(x.time == T0 + 42);
    assert_int_equal(x.dropped_count, 30000);
    assert_int_equal(x.dropped[31].rel, 20031);
    assert_int_equal(x.xid, 0); /* it lies behind what is kept */
}

static void
facts_of_an_end_without_its_xid_say_read_the_records(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) uint8_t *data = wa_calloc(1, 400000);
    BUILDER b = wal_builder_new(NULL);
    wal_add_commit_prepared(b, 777, T0);
    WA_CLEANUP(wa_freep) wa_wal_facts *whole = facts_of(b);
    assert_false(whole->overflow);
    wal_add(b, 1, 0xB0, 0, data, full_xact(data, 30000, 12, true));
    WA_CLEANUP(wa_freep) wa_wal_facts *f = facts_of(b);
    assert_true(f->overflow && f->commits == 2);
}

static void
other_records_are_no_ends(void **state)
{
    (void)state;
    uint8_t data[16] = {0};
    static const struct {
        uint8_t rmid, info;
        size_t len;
    } others[] = {{1, 0x10, 16}, {1, 0x50, 16}, {1, 0x00, 7}, {1, 0x00, 0}, {10, 0x00, 16}};

    for (size_t i = 0; i < WA_ARRAY_SIZE(others); i++) {
        BUILDER b = wal_builder_new(NULL);
        wal_add(b, others[i].rmid, others[i].info, 5, data, others[i].len);
        wa_xact_end x;
        assert_int_equal(read_wal(b, read_xact, &x), WA_FAILED);
    }
}

static wa_status
read_recovery_end(void *arg, const wa_record *record, wa_error *err)
{
    wa_tli *tlis = arg;
    wa_time time;

    (void)err;
    if (wa_record_end_of_recovery(record, &tlis[0], &tlis[1], &time))
        assert_true(time == T0 + 8);
    return WA_OK;
}

static void
the_end_of_recovery_names_both_timelines(void **state)
{
    (void)state;
    BUILDER b = small_wal();
    wa_tli tlis[2] = {0};

    assert_int_equal(read_wal(b, read_recovery_end, tlis), WA_OK);
    assert_int_equal(tlis[0], 3);
    assert_int_equal(tlis[1], 2);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facts_say_what_the_wal_holds),
        cmocka_unit_test(xids_are_ordered_round_the_wrap),
        cmocka_unit_test(a_range_of_xids_holds_what_was_added_and_no_more),
        cmocka_unit_test(xids_too_far_apart_for_an_order_make_facts_say_read_the_records),
        cmocka_unit_test(facts_of_pieces_merge_to_facts_of_the_whole),
        cmocka_unit_test(json_and_back_is_the_same),
        cmocka_unit_test(json_stays_within_its_room),
        cmocka_unit_test(damaged_json_is_corrupt),
        cmocka_unit_test(ends_of_transactions_are_decoded_for_each_major),
        cmocka_unit_test(a_huge_commit_keeps_its_time),
        cmocka_unit_test(facts_of_an_end_without_its_xid_say_read_the_records),
        cmocka_unit_test(other_records_are_no_ends),
        cmocka_unit_test(the_end_of_recovery_names_both_timelines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
