/*
 * Unit tests of pg/walreader.c: damage among many short records, in any portions.
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

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define COUNT 40u

WA_DEFINE_CLEANUP(wal_builder, wal_builder_free)
#define BUILDER WA_CLEANUP(wal_builder_freep) wal_builder *
#define READER WA_CLEANUP(wa_walreader_freep) wa_walreader *

typedef struct seen {
    size_t records;
    uint64_t sum; /* over what they say and their kept bodies */
} seen;

static wa_status
see(void *arg, const wa_record *record, wa_error *err)
{
    seen *s = arg;

    (void)err;
    s->records++;
    s->sum = s->sum * 31 + record->lsn + record->end + record->rmid + record->body_len;
    for (uint32_t i = 0; i < record->body_len; i++)
        s->sum = s->sum * 31 + record->body[i];
    return WA_OK;
}

static wa_walreader *
reader(void)
{
    wa_walreader *r = wa_walreader_new(MIB);

    wa_walreader_start(r, MIB, 0);
    return r;
}

/* Reads a builder's bytes, of which record i is damaged: it is named, those in front of it were
 * reported, and nothing behind it is. */
static void
read_up_to(const wal_builder *b, const wa_lsn *lsns, size_t i, const char *what)
{
    READER r = reader();
    seen s = {0};
    wa_error err = WA_ERROR_INIT;
    char at[WA_LSN_TEXT], expected[64];

    snprintf(expected, sizeof expected, "record at %s: %s is ", wa_lsn_format(lsns[i], at), what);
    assert_int_equal(wa_walreader_feed(r, wal_bytes(b), wal_size(b), see, &s, NULL, &err),
                     WA_CORRUPT);
    if (strncmp(err.message, expected, strlen(expected)) != 0)
        print_error("%s, not %s\n", err.message, expected);
    assert_memory_equal(err.message, expected, strlen(expected));
    assert_int_equal(s.records, i);
    assert_true(wa_walreader_last_record(r) == (i == 0 ? 0 : lsns[i - 1]));
}

/* Lengths with every number of padding bytes, none of a body, and around the one from which on the
 * CRC is computed in streams; several lie in one page. */
static void
damage_in_one_of_many_records_stops_the_reading_there(void **state)
{
    (void)state;
    static const uint8_t body[800] = {1, 2, 3};
    wa_lsn lsns[COUNT];
    BUILDER b = wal_builder_new(NULL);
    for (size_t i = 0; i < COUNT; i++)
        lsns[i] = wal_add_raw(b, 10, 0, 1, body, i < 20 ? i : 740 + i);

    for (size_t i = 0; i + 1 < COUNT; i++) {
        uint8_t *p = wal_bytes_mutable(b) + (lsns[i] - MIB);
        uint8_t *next_info = wal_bytes_mutable(b) + (lsns[i + 1] - MIB) + 16;
        uint32_t tot_len = wa_get_u32le(p);
        bool within_page = lsns[i] % WA_WAL_PAGE + tot_len <= WA_WAL_PAGE;
        size_t last = within_page ? tot_len - 1 : 20; /* without a body the CRC itself */
        p[last] ^= 0x40;
        read_up_to(b, lsns, i, "CRC");
        *next_info ^= 1;
        read_up_to(b, lsns, i, "CRC");
        p[last] ^= 0x40;
        read_up_to(b, lsns, i + 1, "CRC");
        *next_info ^= 1;
        for (uint32_t at = tot_len; within_page && at % 8 != 0; at++) {
            p[at] = 0x80;
            read_up_to(b, lsns, i, "padding");
            p[at] = 0;
        }
    }
}

typedef struct ending {
    wa_status status;
    wa_wal_end kind;
    wa_lsn end, last_record;
    seen s;
    wa_error err;
} ending;

static ending
read_in_portions(const uint8_t *bytes, size_t len, size_t most)
{
    READER r = reader();
    ending e = {.kind = WA_WAL_MORE, .err = WA_ERROR_INIT};

    for (size_t at = 0; at < len && e.status == WA_OK;) {
        size_t n = most == 0 ? len : 1 + (size_t)random() % most;
        n = n < len - at ? n : len - at;
        WA_CLEANUP(wa_freep) uint8_t *portion = wa_memdup(bytes + at, n);
        e.status = wa_walreader_feed(r, portion, n, see, &e.s, &e.kind, &e.err);
        at += n;
    }
    e.end = wa_walreader_end(r);
    e.last_record = wa_walreader_last_record(r);
    return e;
}

/* Records are checked where they lie or, when they are cut, in pieces: both see the same. */
static void
damage_is_named_alike_in_any_portions(void **state)
{
    (void)state;
    static const size_t most[] = {1, 8, 40, 300, 9000};
    BUILDER b = wal_builder_new(NULL);
    wal_fill_until(b, MIB + 20000);
    wal_add_void_record(b, 10000, 3000);
    wal_fill_until(b, MIB + 60000);
    size_t range = wal_size(b);
    wal_add_switch(b);
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(wal_size(b));

    for (unsigned seed = 0; seed < 400; seed++) {
        srandom(seed);
        memcpy(bytes, wal_bytes(b), wal_size(b));
        wal_mutate(bytes, wal_size(b), range);
        ending whole = read_in_portions(bytes, wal_size(b), 0);
        ending cut = read_in_portions(bytes, wal_size(b), most[seed % WA_ARRAY_SIZE(most)]);
        bool same = whole.status == cut.status && whole.kind == cut.kind && whole.end == cut.end &&
                    whole.last_record == cut.last_record && whole.s.sum == cut.s.sum &&
                    strcmp(whole.err.message, cut.err.message) == 0;
        if (!same)
            print_error("seed %u: \"%s\", \"%s\"\n", seed, whole.err.message, cut.err.message);
        assert_true(same);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage_in_one_of_many_records_stops_the_reading_there),
        cmocka_unit_test(damage_is_named_alike_in_any_portions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
