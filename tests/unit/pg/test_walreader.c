/*
 * Unit tests of pg/walreader.c and walreader_page.c: synthetic WAL, whole, cut, and damaged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "walagent/base/bytes.h"
#include "walagent/pg/walreader.h"

#include "wal_builder.h"
#include "wal_mutate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define SYSTEM UINT64_C(7000000000000000001)
#define T0 INT64_C(800000000000000)

WA_DEFINE_CLEANUP(wal_builder, wal_builder_free)
#define BUILDER WA_CLEANUP(wal_builder_freep) wal_builder *
#define READER WA_CLEANUP(wa_walreader_freep) wa_walreader *

/* What came out of a reading: how much, and a sum over everything that a record says. */
typedef struct seen {
    size_t records;
    uint64_t sum;
    wa_record last;
    wa_lsn first;
    size_t stop_after; /* 0: never */
} seen;

static uint64_t
mix(uint64_t sum, const void *data, size_t len)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++)
        sum = (sum ^ p[i]) * UINT64_C(1099511628211);
    return sum;
}

static wa_status
see(void *arg, const wa_record *record, wa_error *err)
{
    seen *s = arg;
    uint64_t facts[] = {record->lsn,  record->end,  record->prev,  record->tot_len, record->xid,
                        record->rmid, record->info, record->magic, record->body_len};

    if (s->stop_after != 0 && s->records == s->stop_after)
        return wa_error_set(err, WA_CANCELLED, "seen enough");
    if (s->records == 0)
        s->first = record->lsn;
    s->sum = mix(s->sum, facts, sizeof facts);
    s->sum = mix(s->sum, record->body, record->body_len);
    s->records++;
    s->last = *record;
    return WA_OK;
}

static wa_walreader *
reader_at(wa_lsn start)
{
    wa_walreader *r = wa_walreader_new(MIB);

    wa_walreader_start(r, start, 0);
    return r;
}

static wa_status
feed(wa_walreader *r, const void *data, size_t len, seen *s, wa_wal_end *end, wa_error *err)
{
    return wa_walreader_feed(r, data, len, see, s, end, err);
}

/* Reads a builder's bytes from its start at 1 MiB and expects them to be fine. */
static seen
read_fine(const wal_builder *b, wa_walreader *r)
{
    seen s = {0};
    wa_wal_end end = WA_WAL_END;
    wa_error err = WA_ERROR_INIT;

    wa_status status = feed(r, wal_bytes(b), wal_size(b), &s, &end, &err);
    if (status != WA_OK)
        print_error("%s\n", err.message);
    assert_int_equal(status, WA_OK);
    assert_int_equal(end, WA_WAL_MORE);
    assert_true(wa_walreader_fed(r) == wal_position(b));
    return s;
}

/* Reads bytes that must not pass, and where the message must contain `what`. */
static void
read_broken(const uint8_t *bytes, size_t len, wa_status expected, const char *what)
{
    READER r = reader_at(MIB);
    seen s = {0};
    wa_error err = WA_ERROR_INIT;
    wa_wal_end end = WA_WAL_MORE;

    wa_status status = feed(r, bytes, len, &s, &end, &err);
    if (status != expected || strstr(err.message, what) == NULL)
        print_error("status %d, end %d: %s\n", (int)status, (int)end, err.message);
    assert_int_equal(status, expected);
    assert_non_null(strstr(err.message, what));
    /* It stays broken. */
    wa_error again = WA_ERROR_INIT;
    assert_int_equal(feed(r, bytes, 1, &s, NULL, &again), expected);
    assert_string_equal(again.message, err.message);
}

/* Some of everything, three segments long. */
static wal_builder *
mixed_wal(uint16_t magic)
{
    wal_builder *b = wal_builder_new(&(wal_builder_options){.magic = magic});

    wal_add_checkpoint(b, true, MIB, 1, 1, T0);
    wal_fill_until(b, MIB + 50000);
    wal_add_commit(b, 742, T0 + 1);
    wal_add_noise(b, 743, 20000);
    wal_add_noise(b, 743, 100);
    wal_add_void_record(b, 30000, 9000);
    wal_add_restore_point(b, "before-import", T0 + 2);
    wal_fill_until(b, MIB + 300000);
    wal_add_switch(b);
    wal_add_noise(b, 744, 1500000); /* over a segment's end */
    wal_fill_until(b, 4 * MIB - 200);
    wal_fill_until(b, 4 * MIB + 100);
    return b;
}

static void
every_record_is_reported_for_every_major(void **state)
{
    (void)state;
    static const struct {
        uint16_t magic;
        int major;
    } all[] = {{WAL_MAGIC_13, 13}, {WAL_MAGIC_14, 14}, {WAL_MAGIC_15, 15},
               {WAL_MAGIC_16, 16}, {WAL_MAGIC_17, 17}, {WAL_MAGIC_18, 18}};

    for (size_t i = 0; i < WA_ARRAY_SIZE(all); i++) {
        BUILDER b = mixed_wal(all[i].magic);
        READER r = reader_at(MIB);
        seen s = read_fine(b, r);
        assert_true(s.records > 1000);
        assert_true(wa_walreader_end(r) == wal_position(b));
        assert_true(wa_walreader_last_record(r) == wal_prev(b));
        assert_true(s.first == MIB + 40);
        assert_int_equal(wa_wal_magic_major(s.last.magic), all[i].major);
        assert_true(wa_walreader_system(r) == SYSTEM);
        assert_int_equal(wa_walreader_page_tli(r), 1);
    }
}

static void
record_fields_are_those_that_were_written(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wa_lsn lsn = wal_add_noise(b, 4242, 77);
    READER r = reader_at(MIB);
    seen s = {0};
    wa_error err = WA_ERROR_INIT;

    /* The record is looked at while its bytes are valid. */
    assert_int_equal(feed(r, wal_bytes(b), wal_size(b), &s, NULL, &err), WA_OK);
    assert_int_equal(s.records, 1);
    assert_true(s.last.lsn == lsn && s.last.end == lsn + 77);
    assert_true(s.last.prev == MIB - 0x28);
    assert_int_equal(s.last.tot_len, 77);
    assert_int_equal(s.last.xid, 4242);
    assert_int_equal(s.last.rmid, 10);
    assert_int_equal(s.last.body_len, 53);
    assert_memory_equal(s.last.body, wal_bytes(b) + 40 + 24, 53);
    assert_true(wa_walreader_end(r) == lsn + 80);
}

static void
portions_make_no_difference(void **state)
{
    (void)state;
    BUILDER b = mixed_wal(WAL_MAGIC_15);
    READER whole = reader_at(MIB);
    seen expected = read_fine(b, whole);
    static const size_t most[] = {1, 2, 3, 7, 24, 100, 8192, 8193, 70000};

    for (unsigned seed = 0; seed < 3 * WA_ARRAY_SIZE(most); seed++) {
        READER r = reader_at(MIB);
        seen s = {0};
        wa_error err = WA_ERROR_INIT;
        srandom(seed);
        for (size_t at = 0; at < wal_size(b);) {
            size_t n = 1 + (size_t)random() % most[seed % WA_ARRAY_SIZE(most)];
            n = n < wal_size(b) - at ? n : wal_size(b) - at;
            /* A copy of exact size, so that reading past it is found. */
            WA_CLEANUP(wa_freep) uint8_t *portion = wa_memdup(wal_bytes(b) + at, n);
            wa_status status = feed(r, portion, n, &s, NULL, &err);
            if (status != WA_OK)
                print_error("seed %u: %s\n", seed, err.message);
            assert_int_equal(status, WA_OK);
            at += n;
            assert_true(wa_walreader_end(r) <= wa_walreader_fed(r));
        }
        if (s.sum != expected.sum)
            print_error("seed %u\n", seed);
        assert_true(s.sum == expected.sum && s.records == expected.records);
        assert_true(wa_walreader_end(r) == wa_walreader_end(whole));
    }
}

static void
only_the_first_bytes_of_a_long_record_are_kept(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wa_lsn lsn = wal_add_noise(b, 1, 3000000);
    READER r = reader_at(MIB);
    seen s = read_fine(b, r);

    assert_int_equal(s.records, 1);
    assert_int_equal(s.last.tot_len, 3000000);
    assert_int_equal(s.last.body_len, WA_RECORD_KEEP);
    assert_true(s.last.lsn == lsn && s.last.end == wal_position(b));
}

static void
a_record_header_may_lie_on_two_pages(void **state)
{
    (void)state;
    for (uint32_t left = 8; left < 24; left += 8) {
        BUILDER b = wal_builder_new(NULL);
        wal_add_noise(b, 1, WA_WAL_PAGE - 40 - left);
        wa_lsn lsn = wal_add_noise(b, 2, 500);
        wal_add_commit(b, 2, T0);
        assert_true(lsn % WA_WAL_PAGE == WA_WAL_PAGE - left);
        READER r = reader_at(MIB);
        seen s = read_fine(b, r);
        assert_int_equal(s.records, 3);
    }
}

static void
a_record_may_end_where_the_page_ends(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wal_add_noise(b, 1, WA_WAL_PAGE - 40);
    READER r = reader_at(MIB);
    seen s = {0};
    wa_error err = WA_ERROR_INIT;

    assert_int_equal(feed(r, wal_bytes(b), wal_size(b), &s, NULL, &err), WA_OK);
    assert_true(wa_walreader_end(r) == MIB + WA_WAL_PAGE);
    size_t before = wal_size(b);
    wal_add_commit(b, 1, T0);
    assert_int_equal(feed(r, wal_bytes(b) + before, wal_size(b) - before, &s, NULL, &err), WA_OK);
    assert_int_equal(s.records, 2);
    assert_true(s.last.lsn == MIB + WA_WAL_PAGE + 24);
}

static void
an_unfinished_record_is_told(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wal_add_commit(b, 1, T0);
    wa_lsn end = wal_position(b);
    wal_add_noise(b, 1, 20000);
    READER r = reader_at(MIB);
    seen s = {0};
    wa_error err = WA_ERROR_INIT;

    assert_int_equal(feed(r, wal_bytes(b), wal_size(b) - 1, &s, NULL, &err), WA_OK);
    assert_true(wa_walreader_in_record(r));
    assert_true(wa_walreader_end(r) == end);
    assert_int_equal(s.records, 1);
    assert_int_equal(feed(r, wal_bytes(b) + wal_size(b) - 1, 1, &s, NULL, &err), WA_OK);
    assert_false(wa_walreader_in_record(r));
    assert_int_equal(s.records, 2);
}

static void
reading_may_begin_in_the_middle_of_a_record(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wa_lsn lsn = wal_add_noise(b, 1, 30001);
    wal_add_commit(b, 1, T0);
    size_t skip = 2 * WA_WAL_PAGE;
    READER r = wa_walreader_new(MIB);
    seen s = {0};
    wa_error err = WA_ERROR_INIT;

    wa_walreader_start(r, MIB + skip, lsn);
    for (size_t at = skip; at < wal_size(b); at++)
        assert_int_equal(feed(r, wal_bytes(b) + at, 1, &s, NULL, &err), WA_OK);
    assert_int_equal(s.records, 1);
    assert_int_equal(s.last.rmid, 1);

    wa_walreader_start(r, MIB + skip, lsn + 8);
    assert_int_equal(feed(r, wal_bytes(b) + skip, wal_size(b) - skip, &s, NULL, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, "links to"));
}

/* As recovery does: what lies before it on the page is nobody's business. */
static void
reading_may_begin_at_a_record(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wal_fill_until(b, MIB + 100000);
    wal_add_noise(b, 1, 20000); /* the next record's page begins inside it */
    wa_lsn before = wal_add_noise(b, 1, 100), first = wal_add_commit(b, 700, T0);
    wal_fill_until(b, MIB + 200000);
    wa_lsn page = first - first % WA_WAL_PAGE;
    assert_true(before > page);
    wal_bytes_mutable(b)[before - MIB + 50] ^= 1;
    seen s = {0};
    wa_wal_end end = WA_WAL_END;
    wa_error err = WA_ERROR_INIT;
    READER r = reader_at(0);
    wa_walreader_start_record(r, first);
    assert_true(wa_walreader_end(r) == first);
    assert_int_equal(
        feed(r, wal_bytes(b) + (page - MIB), wal_size(b) - (page - MIB), &s, &end, &err), WA_OK);
    assert_true(s.first == first && s.last.lsn == wal_prev(b));
    wa_walreader_start_record(r, before);
    assert_int_equal(feed(r, wal_bytes(b) + (page - MIB), 8192, &s, &end, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, "CRC"));
}

static void
a_whole_segment_may_be_inside_one_record(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wal_add_noise(b, 1, 3 * MIB);
    READER r = reader_at(2 * MIB);
    seen s = {0};
    wa_error err = WA_ERROR_INIT;
    wa_wal_end end = WA_WAL_END;

    assert_int_equal(feed(r, wal_bytes(b) + MIB, MIB, &s, &end, &err), WA_OK);
    assert_int_equal(end, WA_WAL_MORE);
    assert_int_equal(s.records, 0);
    assert_true(wa_walreader_end(r) == 2 * MIB);
}

static void
a_void_record_is_followed_by_its_overwrite(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wal_add_commit(b, 1, T0);
    wa_lsn lost = wal_add_void_record(b, 60000, 20000);
    wal_add_commit(b, 2, T0 + 1);
    READER r = reader_at(MIB);
    seen s = read_fine(b, r);
    assert_int_equal(s.records, 3);

    BUILDER other = wal_builder_new(NULL);
    wal_add_commit(other, 1, T0);
    wal_add_void_record_as(other, 60000, 20000, lost + 8);
    read_broken(wal_bytes(other), wal_size(other), WA_CORRUPT, "overwritten record");

    /* The flag without the record behind it. */
    BUILDER plain = wal_builder_new(NULL);
    wal_add_noise(plain, 1, WA_WAL_PAGE - 40);
    wal_add_commit(plain, 1, T0);
    wal_bytes_mutable(plain)[WA_WAL_PAGE + 2] |= 8;
    read_broken(wal_bytes(plain), wal_size(plain), WA_CORRUPT, "should say which record");
}

static void
a_switch_leaves_zeroes_to_the_segments_end(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wal_add_commit(b, 1, T0);
    wal_add_switch(b);
    wa_lsn behind = wal_prev(b) + 24;
    wal_add_commit(b, 2, T0 + 1);
    READER r = reader_at(MIB);
    seen s = {0};
    wa_error err = WA_ERROR_INIT;

    assert_int_equal(feed(r, wal_bytes(b), MIB - 1, &s, NULL, &err), WA_OK);
    assert_true(wa_walreader_end(r) == behind);
    assert_int_equal(feed(r, wal_bytes(b) + MIB - 1, 1, &s, NULL, &err), WA_OK);
    assert_true(wa_walreader_end(r) == 2 * MIB);
    assert_int_equal(feed(r, wal_bytes(b) + MIB, wal_size(b) - MIB, &s, NULL, &err), WA_OK);
    assert_int_equal(s.records, 3);
    assert_true(s.last.lsn == 2 * MIB + 40);

    wal_bytes_mutable(b)[MIB / 2] = 1;
    read_broken(wal_bytes(b), wal_size(b), WA_CORRUPT, "not zero behind the switch");
}

static void
zeroes_where_a_record_should_begin_are_the_end(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wal_fill_until(b, MIB + 20000);
    wa_lsn end = wal_position(b);
    wal_pad_segment(b);
    READER r = reader_at(MIB);
    seen s = {0};
    wa_error err = WA_ERROR_INIT;
    wa_wal_end kind = WA_WAL_MORE;

    assert_int_equal(feed(r, wal_bytes(b), wal_size(b), &s, &kind, &err), WA_OK);
    assert_int_equal(kind, WA_WAL_END);
    assert_true(wa_walreader_end(r) == end);
    assert_true(wa_walreader_fed(r) == 2 * MIB);
    assert_int_equal(feed(r, "rubbish", 7, &s, &kind, &err), WA_OK);
    assert_int_equal(kind, WA_WAL_END);
}

/* New WAL over the old content of a recycled file. The new one ends at a page's end, or in the
 * middle of a record that goes on behind it. */
static wal_builder *
recycled(bool in_record)
{
    wal_builder *old = wal_builder_new(&(wal_builder_options){.start = MIB});
    wal_builder *b = wal_builder_new(&(wal_builder_options){.start = 5 * MIB});

    wal_fill_segment(old);
    wal_add_noise(b, 1, WA_WAL_PAGE - 40);
    if (in_record)
        wal_add_noise(b, 2, 10000);
    size_t keep = in_record ? 2 * WA_WAL_PAGE : WA_WAL_PAGE;
    wal_pad_segment(b);
    memcpy(wal_bytes_mutable(b) + keep, wal_bytes(old) + keep, MIB - keep);
    wal_builder_free(old);
    return b;
}

static void
a_recycled_files_old_content_is_the_end(void **state)
{
    (void)state;
    BUILDER b = recycled(false);
    READER r = reader_at(5 * MIB);
    seen s = {0};
    wa_error err = WA_ERROR_INIT;
    wa_wal_end kind = WA_WAL_MORE;

    assert_int_equal(feed(r, wal_bytes(b), wal_size(b), &s, &kind, &err), WA_OK);
    assert_int_equal(kind, WA_WAL_END);
    assert_true(wa_walreader_end(r) == 5 * MIB + WA_WAL_PAGE);
}

static void
old_content_inside_a_record_is_corrupt_unless_lenient(void **state)
{
    (void)state;
    BUILDER b = recycled(true);
    READER r = reader_at(5 * MIB);
    seen s = {0};
    wa_error err = WA_ERROR_INIT;
    wa_wal_end kind = WA_WAL_MORE;

    assert_int_equal(feed(r, wal_bytes(b), wal_size(b), &s, &kind, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, "page at 0/504000"));
    wa_walreader_lenient(r, true);
    wa_walreader_start(r, 5 * MIB, 0);
    assert_int_equal(feed(r, wal_bytes(b), wal_size(b), &s, &kind, &err), WA_OK);
    assert_int_equal(kind, WA_WAL_END);
    assert_true(wa_walreader_end(r) == 5 * MIB + WA_WAL_PAGE);
}

static void
lenient_turns_every_damage_into_the_end(void **state)
{
    (void)state;
    BUILDER b = mixed_wal(WAL_MAGIC_15);
    unsigned seed = 5;

    print_message("seed %u\n", seed);
    srandom(seed);
    for (int i = 0; i < 300; i++) {
        size_t at = (size_t)random() % wal_size(b);
        uint8_t *byte = wal_bytes_mutable(b) + at;
        uint8_t was = *byte;
        READER r = reader_at(MIB);
        seen s = {0};
        wa_error err = WA_ERROR_INIT;
        *byte = (uint8_t)random();
        wa_walreader_lenient(r, true);
        assert_int_equal(feed(r, wal_bytes(b), wal_size(b), &s, NULL, &err), WA_OK);
        assert_true(*byte == was || wa_walreader_end(r) <= MIB + at + WA_RECORD_KEEP * 100);
        *byte = was;
    }
}

static void
an_unknown_magic_is_not_parsed(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(&(wal_builder_options){.magic = 0xD11A});
    wal_add_commit(b, 1, T0);
    READER r = reader_at(MIB);
    seen s = {0};
    wa_error err = WA_ERROR_INIT;
    wa_wal_end kind = WA_WAL_MORE;

    assert_int_equal(feed(r, wal_bytes(b), wal_size(b), &s, &kind, &err), WA_OK);
    assert_int_equal(kind, WA_WAL_UNPARSED);
    assert_int_equal(s.records, 0);
    assert_true(wa_walreader_end(r) == MIB);
    assert_int_equal(wa_wal_magic_major(0xD11A), 0);

    BUILDER rubbish = wal_builder_new(&(wal_builder_options){.magic = 0x1234});
    wal_add_commit(rubbish, 1, T0);
    read_broken(wal_bytes(rubbish), wal_size(rubbish), WA_CORRUPT, "1234");
}

static void
foreign_pages_are_refused(void **state)
{
    (void)state;
    BUILDER b = mixed_wal(WAL_MAGIC_15);
    seen s = {0};
    wa_error err = WA_ERROR_INIT;

    READER r = wa_walreader_new(MIB);
    wa_walreader_expect_system(r, SYSTEM + 1);
    wa_walreader_start(r, MIB, 0);
    assert_int_equal(feed(r, wal_bytes(b), wal_size(b), &s, NULL, &err), WA_CONFLICT);
    assert_non_null(strstr(err.message, "system identifier"));

    READER big = wa_walreader_new(16 * MIB);
    wa_walreader_start(big, 16 * MIB, 0);
    BUILDER small = wal_builder_new(&(wal_builder_options){.start = 16 * MIB});
    wal_add_commit(small, 1, T0);
    assert_int_equal(feed(big, wal_bytes(small), wal_size(small), &s, NULL, &err), WA_CONFLICT);
    assert_non_null(strstr(err.message, "segment size"));

    /* The second segment has another identifier than the first. */
    wal_bytes_mutable(b)[MIB + 24] ^= 1;
    read_broken(wal_bytes(b), wal_size(b), WA_CONFLICT, "system identifier");
    wal_bytes_mutable(b)[MIB + 24] ^= 1;

    wa_put_u32le(wal_bytes_mutable(b) + 36, 16384);
    read_broken(wal_bytes(b), wal_size(b), WA_CORRUPT, "page size is 16384");
}

static wa_status
read_timelines(const wal_builder *b, const wa_tli *tlis, size_t count, wa_error *err)
{
    READER r = wa_walreader_new(MIB);
    seen s = {0};

    wa_walreader_expect_timelines(r, tlis, count);
    wa_walreader_start(r, MIB, 0);
    return feed(r, wal_bytes(b), wal_size(b), &s, NULL, err);
}

static void
timelines_follow_the_chain(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(&(wal_builder_options){.tli = 1});
    wa_error err = WA_ERROR_INIT;
    static const wa_tli chain[] = {1, 3, 4}, other[] = {1, 2}, only[] = {3};

    wal_fill_until(b, MIB + 50000);
    wal_set_tli(b, 3);
    wal_fill_until(b, MIB + 100000);
    assert_int_equal(read_timelines(b, chain, 3, &err), WA_OK);
    assert_int_equal(read_timelines(b, NULL, 0, &err), WA_OK);
    assert_int_equal(read_timelines(b, other, 2, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, "not in this history"));
    assert_int_equal(read_timelines(b, only, 1, &err), WA_CORRUPT);
    wal_set_tli(b, 1);
    wal_fill_until(b, MIB + 150000);
    assert_int_equal(read_timelines(b, chain, 3, &err), WA_CORRUPT);
    assert_int_equal(read_timelines(b, NULL, 0, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, "timeline 1 after timeline 3"));
}

static void
damage_is_named(void **state)
{
    (void)state;
    BUILDER b = wal_builder_new(NULL);
    wal_add_commit(b, 1, T0);
    wal_add_noise(b, 1, 45);
    wal_add_noise(b, 1, 20000);
    wal_add_commit(b, 1, T0);
    uint8_t *p = wal_bytes_mutable(b);
    static const struct {
        size_t at; /* the second record begins at 40 + 40 */
        uint8_t to;
        const char *what;
    } damage[] = {{80, 3, "record at 0/100050: length 3 is impossible"},
                  {83, 0xff, "record at 0/100050: length"},
                  {88, 1, "record at 0/100050: links to 0/100001 instead of 0/100028"},
                  {96, 0x20, "record at 0/100050: CRC is"},
                  {97, 30, "record at 0/100050: there is no resource manager 30"},
                  {100, 0, "record at 0/100050: CRC is"},
                  {110, 0, "record at 0/100050: CRC is"},
                  {126, 1, "record at 0/100050: padding"},
                  {9000, 0, "record at 0/100080: CRC is"},
                  {WA_WAL_PAGE, 0x13, "page at 0/102000: magic number is D113 instead of D110"},
                  {WA_WAL_PAGE + 2, 0, "page at 0/102000: continues a record"},
                  {WA_WAL_PAGE + 2, 0x11, "page at 0/102000: header flags"},
                  {WA_WAL_PAGE + 2, 3, "page at 0/102000: header flags"},
                  {WA_WAL_PAGE + 16, 0, "page at 0/102000: continues a record"},
                  {WA_WAL_PAGE + 9, 0, "page at 0/102000: page address 0/100000 in the middle"},
                  {2, 0, "page at 0/100000: header flags"}};

    for (size_t i = 0; i < WA_ARRAY_SIZE(damage); i++) {
        uint8_t was = p[damage[i].at];
        assert_int_not_equal(was, damage[i].to);
        p[damage[i].at] = damage[i].to;
        read_broken(p, wal_size(b), WA_CORRUPT, damage[i].what);
        p[damage[i].at] = was;
    }
    READER r = reader_at(MIB);
    (void)read_fine(b, r);
}

static void
the_callback_stops_the_reading(void **state)
{
    (void)state;
    BUILDER b = mixed_wal(WAL_MAGIC_15);
    READER r = reader_at(MIB);
    seen s = {.stop_after = 10};
    wa_error err = WA_ERROR_INIT;

    assert_int_equal(feed(r, wal_bytes(b), wal_size(b), &s, NULL, &err), WA_CANCELLED);
    assert_int_equal(s.records, 10);
    assert_true(wa_walreader_end(r) == ((s.last.end + 7) & ~UINT64_C(7)));
    assert_int_equal(feed(r, wal_bytes(b), 1, &s, NULL, &err), WA_CANCELLED);
}

static void
no_mutation_passes_unnoticed(void **state)
{
    (void)state;
    static const unsigned seeds[] = {1, 2, 3};

    for (size_t i = 0; i < WA_ARRAY_SIZE(seeds); i++) {
        print_message("seed %u\n", seeds[i]);
        BUILDER b = wal_builder_new(&(wal_builder_options){.magic = WAL_MAGIC_17});
        wal_fill_until(b, MIB + 100000);
        wal_add_noise(b, 1, 200001);
        wal_fill_until(b, MIB + 500000);
        wal_add_switch(b);
        assert_int_equal(wal_mutate_unnoticed(wal_bytes(b), MIB, MIB, seeds[i], 1500), 0);
        BUILDER full = wal_builder_new(&(wal_builder_options){.start = 9 * MIB});
        wal_add_noise(full, 1, 100000);
        wal_fill_segment(full);
        assert_int_equal(wal_mutate_unnoticed(wal_bytes(full), MIB, 9 * MIB, seeds[i], 1000), 0);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_record_is_reported_for_every_major),
        cmocka_unit_test(record_fields_are_those_that_were_written),
        cmocka_unit_test(portions_make_no_difference),
        cmocka_unit_test(only_the_first_bytes_of_a_long_record_are_kept),
        cmocka_unit_test(a_record_header_may_lie_on_two_pages),
        cmocka_unit_test(a_record_may_end_where_the_page_ends),
        cmocka_unit_test(an_unfinished_record_is_told),
        cmocka_unit_test(reading_may_begin_in_the_middle_of_a_record),
        cmocka_unit_test(reading_may_begin_at_a_record),
        cmocka_unit_test(a_whole_segment_may_be_inside_one_record),
        cmocka_unit_test(a_void_record_is_followed_by_its_overwrite),
        cmocka_unit_test(a_switch_leaves_zeroes_to_the_segments_end),
        cmocka_unit_test(zeroes_where_a_record_should_begin_are_the_end),
        cmocka_unit_test(a_recycled_files_old_content_is_the_end),
        cmocka_unit_test(old_content_inside_a_record_is_corrupt_unless_lenient),
        cmocka_unit_test(lenient_turns_every_damage_into_the_end),
        cmocka_unit_test(an_unknown_magic_is_not_parsed),
        cmocka_unit_test(foreign_pages_are_refused),
        cmocka_unit_test(timelines_follow_the_chain),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(the_callback_stops_the_reading),
        cmocka_unit_test(no_mutation_passes_unnoticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
