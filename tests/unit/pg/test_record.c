/*
 * Unit tests of pg/record.c and rmgr.c: block references and main data.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "walagent/base/bytes.h"
#include "walagent/base/mem.h"
#include "walagent/pg/walreader.h"

#include <string.h>

#define MAGIC_14 0xD10D
#define MAGIC_15 0xD110

/* A record body as it grows. */
typedef struct body {
    uint8_t bytes[512];
    size_t len;
} body;

static void
add(body *b, const void *data, size_t len)
{
    memcpy(b->bytes + b->len, data, len);
    b->len += len;
}

static void
add_u8(body *b, unsigned v)
{
    uint8_t byte = (uint8_t)v;

    add(b, &byte, 1);
}

static void
add_u16(body *b, unsigned v)
{
    uint8_t bytes[2];

    wa_put_u16le(bytes, (uint16_t)v);
    add(b, bytes, 2);
}

static void
add_u32(body *b, uint32_t v)
{
    uint8_t bytes[4];

    wa_put_u32le(bytes, v);
    add(b, bytes, 4);
}

static void
add_block(body *b, unsigned id, unsigned flags, unsigned data_len)
{
    add_u8(b, id);
    add_u8(b, flags);
    add_u16(b, data_len);
}

static void
add_locator(body *b, uint32_t rel, uint32_t block)
{
    add_u32(b, 1663);
    add_u32(b, 5);
    add_u32(b, rel);
    add_u32(b, block);
}

static wa_record
record_of(const body *b, uint16_t magic)
{
    return (wa_record){.tot_len = (uint32_t)(24 + b->len),
                       .magic = magic,
                       .body = b->bytes,
                       .body_len = (uint32_t)b->len};
}

static void
blocks_and_main_data_are_found(void **state)
{
    (void)state;
    body b = {0};
    add_u8(&b, 253); /* origin */
    add_u16(&b, 3);
    add_u8(&b, 252); /* top-level xid */
    add_u32(&b, 700);
    add_block(&b, 0, 0x20, 3); /* data */
    add_locator(&b, 16384, 7);
    add_block(&b, 1, 0x80 | 0x01, 0); /* same relation, fork 1 */
    add_u32(&b, 8);
    add_u8(&b, 255);
    add_u8(&b, 4);
    add(&b, "abc", 3);
    add(&b, "main", 4);

    wa_record record = record_of(&b, MAGIC_15);
    wa_block_ref refs[4];
    uint32_t len = 0;
    assert_int_equal(wa_record_blocks(&record, refs, 4), 2);
    assert_int_equal(refs[0].rel, 16384);
    assert_int_equal(refs[0].spc, 1663);
    assert_int_equal(refs[0].db, 5);
    assert_int_equal(refs[0].block, 7);
    assert_int_equal(refs[0].fork, 0);
    assert_int_equal(refs[1].rel, 16384);
    assert_int_equal(refs[1].fork, 1);
    assert_int_equal(refs[1].block, 8);
    assert_false(refs[0].has_image);
    assert_memory_equal(wa_record_main(&record, &len), "main", 4);
    assert_int_equal(len, 4);
    assert_int_equal(wa_record_blocks(&record, refs, 1), 1);
}

static void
a_record_without_main_data_has_no_last_header(void **state)
{
    (void)state;
    body b = {0};
    add_block(&b, 0, 0x20, 30);
    add_locator(&b, 9, 1);
    /* The data looks like another header, but was announced as data. */
    add_block(&b, 1, 0, 0);
    add_locator(&b, 1234, 99);
    add(&b, "0123456789", 10);

    wa_record record = record_of(&b, MAGIC_15);
    wa_block_ref refs[4];
    uint32_t len = 77;
    assert_int_equal(wa_record_blocks(&record, refs, 4), 1);
    assert_null(wa_record_main(&record, &len));
    assert_int_equal(len, 0);
}

/* A compressed image with a hole has two bytes more; which flag means "compressed" changed in 15.
 */
static void
image_headers_differ_by_major(void **state)
{
    (void)state;
    static const struct {
        uint16_t magic;
        unsigned flags;
        bool has_hole_length;
    } cases[] = {{MAGIC_14, 0x03, true}, {MAGIC_14, 0x05, false}, {MAGIC_15, 0x05, true},
                 {MAGIC_15, 0x09, true}, {MAGIC_15, 0x11, true},  {MAGIC_15, 0x03, false},
                 {MAGIC_15, 0x04, false}};

    for (size_t i = 0; i < WA_ARRAY_SIZE(cases); i++) {
        body b = {0};
        add_block(&b, 0, 0x10, 0);
        add_u16(&b, 5); /* image length */
        add_u16(&b, 100);
        add_u8(&b, cases[i].flags);
        if (cases[i].has_hole_length)
            add_u16(&b, 50);
        add_locator(&b, 42, 3);
        add_u8(&b, 255);
        add_u8(&b, 1);
        add(&b, "image!", 6);
        wa_record record = record_of(&b, cases[i].magic);
        wa_block_ref ref = {0};
        uint32_t len = 0;
        assert_int_equal(wa_record_blocks(&record, &ref, 1), 1);
        assert_int_equal(ref.rel, 42);
        assert_int_equal(ref.block, 3);
        assert_true(ref.has_image);
        const uint8_t *main_data = wa_record_main(&record, &len);
        assert_non_null(main_data);
        assert_int_equal(*main_data, '!');
    }
}

static void
long_main_data_may_be_kept_in_part(void **state)
{
    (void)state;
    body b = {0};
    add_u8(&b, 254);
    add_u32(&b, 300);
    for (int i = 0; i < 300; i++)
        add_u8(&b, (unsigned)i & 0xff);
    wa_record record = record_of(&b, MAGIC_15);
    uint32_t len = 0;

    assert_ptr_equal(wa_record_main(&record, &len), b.bytes + 5);
    assert_int_equal(len, 300);
    record.body_len = 105;
    assert_ptr_equal(wa_record_main(&record, &len), b.bytes + 5);
    assert_int_equal(len, 100);
    record.body_len = 5;
    assert_null(wa_record_main(&record, &len));
}

static void
nonsense_yields_nothing(void **state)
{
    (void)state;
    body b = {0};
    wa_block_ref refs[4];
    uint32_t len = 0;
    wa_record record = record_of(&b, MAGIC_15);
    assert_int_equal(wa_record_blocks(&record, refs, 4), 0);
    assert_null(wa_record_main(&record, &len));

    add_block(&b, 0, 0x80, 0); /* the same relation as which? */
    add_u32(&b, 1);
    record = record_of(&b, MAGIC_15);
    assert_int_equal(wa_record_blocks(&record, refs, 4), 0);

    b.len = 0;
    add_u8(&b, 254); /* longer than the record */
    add_u32(&b, 1000);
    add(&b, "x", 1);
    record = record_of(&b, MAGIC_15);
    assert_null(wa_record_main(&record, &len));

    b.len = 0;
    add_u8(&b, 40); /* no such header */
    add(&b, "xxxxxxxxx", 9);
    record = record_of(&b, MAGIC_15);
    assert_int_equal(wa_record_blocks(&record, refs, 4), 0);
}

static void
resource_managers_have_pg_waldumps_names(void **state)
{
    (void)state;
    assert_string_equal(wa_rmgr_name(0), "XLOG");
    assert_string_equal(wa_rmgr_name(1), "Transaction");
    assert_string_equal(wa_rmgr_name(10), "Heap");
    assert_string_equal(wa_rmgr_name(21), "LogicalMessage");
    assert_null(wa_rmgr_name(22));
    assert_null(wa_rmgr_name(128));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_and_main_data_are_found),
        cmocka_unit_test(a_record_without_main_data_has_no_last_header),
        cmocka_unit_test(image_headers_differ_by_major),
        cmocka_unit_test(long_main_data_may_be_kept_in_part),
        cmocka_unit_test(nonsense_yields_nothing),
        cmocka_unit_test(resource_managers_have_pg_waldumps_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
