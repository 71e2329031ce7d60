/*
 * Tests of the container: what is written comes back, damage is found, stock zstd reads it.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "container_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/base/crc32c.h"
#include "walagent/base/file.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1024u * 1024)

static uint64_t seed = 20260731;

static uint64_t
next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Half runs, half noise: compresses, but not to nothing. */
static uint8_t *
make_content(size_t len)
{
    uint8_t *data = wa_malloc(len + 1);

    for (size_t i = 0; i < len;) {
        size_t run = 1 + next_random() % 200;
        bool noise = next_random() % 2;
        uint8_t byte = (uint8_t)next_random();
        for (; run > 0 && i < len; run--)
            data[i++] = noise ? (uint8_t)next_random() : byte;
    }
    return data;
}

static json_t *
make_facts(void)
{
    json_t *facts = json_object();
    wa_json_set_string(facts, "note", "any");
    wa_json_set_string(facts, "kind", "test");
    return facts;
}

static wa_status
write_object_at(int level, const void *data, size_t len, wa_pool *pool, size_t frame_size,
                const json_t *bulky, wa_buf *out, wa_error *err)
{
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(out);
    WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;
    WA_CLEANUP(wa_json_freep) json_t *facts = make_facts();
    const uint8_t *from = data;

    WA_TRY(wa_container_writer_new(sink, pool, level, frame_size, &w, err));
    while (len > 0) {
        size_t step = 1 + next_random() % (2 * frame_size);
        step = step < len ? step : len;
        /* What is lent may stand between what is copied. */
        WA_TRY(next_random() % 2 ? wa_container_write(w, from, step, err)
                                 : wa_container_write_lent(w, from, step, err));
        from += step;
        len -= step;
    }
    WA_TRY(wa_container_finish(w, facts, bulky, err));
    assert_int_equal(wa_container_stored_size(w), out->len);
    return WA_OK;
}

static wa_status
write_object(const void *data, size_t len, wa_pool *pool, size_t frame_size, const json_t *bulky,
             wa_buf *out, wa_error *err)
{
    return write_object_at(3, data, len, pool, frame_size, bulky, out, err);
}

static void
assert_ok(wa_status status, const wa_error *err)
{
    if (status != WA_OK)
        fail_msg("%s: %s", wa_status_name(status), err->message);
}

static wa_pool *
make_pool(size_t workers)
{
    wa_error err = WA_ERROR_INIT;
    wa_pool *pool = NULL;
    assert_ok(wa_pool_new("test", workers, 4, &pool, &err), &err);
    return pool;
}

static void
content_of_any_length_comes_back(void **state)
{
    (void)state;
    const size_t frame = 1000;
    const size_t lengths[] = {0, 1, 999, 1000, 1001, 2000, 3000, 3001, 65536, 123457};

    WA_CLEANUP(wa_pool_freep) wa_pool *pool = make_pool(3);
    for (size_t i = 0; i < WA_ARRAY_SIZE(lengths); i++) {
        WA_CLEANUP(wa_buf_done)
        wa_buf object = WA_BUF_INIT(MIB), raw = WA_BUF_INIT(MIB), all = WA_BUF_INIT(MIB);
        WA_CLEANUP(wa_freep) uint8_t *data = make_content(lengths[i]);
        WA_CLEANUP(wa_json_freep) json_t *facts = NULL;
        wa_error err = WA_ERROR_INIT;

        assert_ok(write_object(data, lengths[i], NULL, frame, NULL, &object, &err), &err);
        assert_ok(wa_container_unpack(object.data, object.len, "o", &raw, &facts, &err), &err);
        assert_int_equal(raw.len, lengths[i]);
        if (raw.len)
            assert_memory_equal(raw.data, data, raw.len);
        assert_string_equal(wa_json_string_or(facts, "note", ""), "any");
        assert_int_equal(wa_json_u64_or(facts, "raw_size", 99), lengths[i]);

        WA_CLEANUP(wa_ranges_freep)
        wa_ranges *from = wa_ranges_of_memory(object.data, object.len, "o");
        WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
        WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&all);
        assert_ok(wa_container_open(from, &c, &err), &err);
        assert_int_equal(wa_container_frames(c), (lengths[i] + frame - 1) / frame);
        assert_int_equal(wa_container_size(c), lengths[i]);
        assert_ok(wa_container_read_all(c, i % 2 ? pool : NULL, sink, &err), &err);
        assert_int_equal(all.len, lengths[i]);
        if (all.len)
            assert_memory_equal(all.data, data, all.len);
        WA_CLEANUP(wa_freep) uint8_t *into = wa_malloc(lengths[i]);
        assert_ok(wa_container_read_into(c, i % 2 ? NULL : pool, into, lengths[i], &err), &err);
        if (all.len)
            assert_memory_equal(into, data, all.len);
        assert_int_equal(wa_container_read_into(c, pool, into, lengths[i] + 1, &err), WA_INVALID);
    }
}

static void
any_number_of_workers_writes_the_same_bytes(void **state)
{
    (void)state;
    const size_t len = 700001;
    WA_CLEANUP(wa_freep) uint8_t *data = make_content(len);
    WA_CLEANUP(wa_buf_done) wa_buf serial = WA_BUF_INIT(MIB);
    wa_error err = WA_ERROR_INIT;

    assert_ok(write_object(data, len, NULL, 10000, NULL, &serial, &err), &err);
    for (size_t workers = 1; workers <= 5; workers++) {
        WA_CLEANUP(wa_pool_freep) wa_pool *pool = make_pool(workers);
        WA_CLEANUP(wa_buf_done) wa_buf parallel = WA_BUF_INIT(MIB);
        assert_ok(write_object(data, len, pool, 10000, NULL, &parallel, &err), &err);
        assert_int_equal(parallel.len, serial.len);
        assert_memory_equal(parallel.data, serial.data, serial.len);
    }
}

/* The pool's contexts and frames go from one writer to the next: nothing of the first may stay. */
static void
writers_of_any_level_and_frame_size_share_a_pool(void **state)
{
    (void)state;
    const struct {
        int level;
        size_t frame;
    } kinds[] = {{3, 10000}, {19, 3000}, {1, 10000}, {3, 3000}, {5, 20000}, {3, 10000}};
    const size_t len = 60001;
    WA_CLEANUP(wa_freep) uint8_t *data = make_content(len);
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = make_pool(2);

    for (size_t i = 0; i < WA_ARRAY_SIZE(kinds); i++) {
        WA_CLEANUP(wa_buf_done) wa_buf alone = WA_BUF_INIT(MIB), shared = WA_BUF_INIT(MIB);
        wa_error err = WA_ERROR_INIT;
        int level = kinds[i].level;
        size_t frame = kinds[i].frame;
        assert_ok(write_object_at(level, data, len, NULL, frame, NULL, &alone, &err), &err);
        assert_ok(write_object_at(level, data, len, pool, frame, NULL, &shared, &err), &err);
        assert_int_equal(shared.len, alone.len);
        assert_memory_equal(shared.data, alone.data, alone.len);
    }
}

static void
space_and_advance_write_what_write_writes(void **state)
{
    (void)state;
    const size_t len = 54321;
    WA_CLEANUP(wa_freep) uint8_t *data = make_content(len);
    WA_CLEANUP(wa_json_freep) json_t *facts = make_facts();
    WA_CLEANUP(wa_buf_done) wa_buf one = WA_BUF_INIT(MIB), two = WA_BUF_INIT(MIB);
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&two);
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = make_pool(2);
    WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;
    wa_error err = WA_ERROR_INIT;
    char hash[WA_XXH_HEX], expected[WA_XXH_HEX];

    assert_ok(write_object(data, len, NULL, 5000, NULL, &one, &err), &err);
    assert_ok(wa_container_writer_new(sink, pool, 3, 5000, &w, &err), &err);
    for (size_t done = 0; done < len;) {
        void *room;
        size_t room_len;
        assert_ok(wa_container_space(w, &room, &room_len, &err), &err);
        assert_true(room_len > 0);
        size_t step = next_random() % (room_len + 1);
        step = step < len - done ? step : len - done;
        memcpy(room, data + done, step);
        assert_ok(wa_container_advance(w, step, &err), &err);
        done += step;
    }
    assert_string_equal(wa_container_hash(w, hash), wa_xxh_of(data, len, expected));
    assert_ok(wa_container_finish(w, facts, NULL, &err), &err);
    assert_int_equal(one.len, two.len);
    assert_memory_equal(one.data, two.data, one.len);
}

static void
ranges_give_the_same_bytes(void **state)
{
    (void)state;
    const size_t len = 100000;
    WA_CLEANUP(wa_freep) uint8_t *data = make_content(len);
    WA_CLEANUP(wa_freep) uint8_t *out = wa_malloc(len);
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(MIB);
    WA_CLEANUP(wa_decoder_freep) wa_decoder *d = wa_decoder_new();
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    wa_error err = WA_ERROR_INIT;

    print_message("seed %llu\n", (unsigned long long)seed);
    assert_ok(write_object(data, len, NULL, 777, NULL, &object, &err), &err);
    WA_CLEANUP(wa_ranges_freep) wa_ranges *from = wa_ranges_of_memory(object.data, object.len, "o");
    assert_ok(wa_container_open(from, &c, &err), &err);
    for (int i = 0; i < 1000; i++) {
        uint64_t offset = next_random() % (len + 1);
        size_t want = next_random() % (i % 2 ? 2000 : len);
        want = want < len - offset ? want : len - offset;
        assert_ok(wa_container_read(c, d, offset, out, want, &err), &err);
        assert_memory_equal(out, data + offset, want);
        size_t frame = wa_container_frame_at(c, offset);
        assert_int_equal(frame, offset == len ? wa_container_frames(c) : offset / 777);
    }
    assert_int_equal(wa_container_read(c, d, len, out, 1, &err), WA_INVALID);
    assert_int_equal(wa_container_read(c, d, UINT64_MAX, out, 2, &err), WA_INVALID);
}

/* Ranges that count, of a store far away. */
typedef struct far_ranges {
    wa_ranges base;
    const wa_buf *object;
    size_t reads, longest;
    uint64_t fails_at; /* a read of this byte */
} far_ranges;

static wa_status
far_read(wa_ranges *ranges, uint64_t offset, void *out, size_t len, wa_error *err)
{
    far_ranges *f = (far_ranges *)ranges;
    if (offset <= f->fails_at && f->fails_at < offset + len)
        return wa_error_set(err, WA_UNAVAILABLE, "too far");
    f->reads++;
    f->longest = len > f->longest ? len : f->longest;
    memcpy(out, f->object->data + offset, len);
    return WA_OK;
}

static void
frames_that_are_read_in_a_row_come_in_few_reads(void **state)
{
    (void)state;
    static const wa_ranges_ops ops = {far_read, NULL};
    const size_t len = 5 * MIB + 12345;
    WA_CLEANUP(wa_freep) uint8_t *data = make_content(len);
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(2 * len);
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(len);
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    wa_error err = WA_ERROR_INIT;

    assert_ok(write_object(data, len, NULL, 10000, NULL, &object, &err), &err);
    far_ranges from = {
        .base = {&ops, object.len, "far"}, .object = &object, .fails_at = UINT64_MAX};
    assert_ok(wa_container_open(&from.base, &c, &err), &err);
    from.reads = from.longest = 0;
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&got);
    assert_ok(wa_container_read_all(c, NULL, sink, &err), &err);
    assert_int_equal(got.len, len);
    assert_memory_equal(got.data, data, len);
    assert_in_range(from.reads, 2, object.len / (MIB - 20000) + 1);
    assert_in_range(from.longest, 1, MIB);
    from.fails_at = object.len / 2;
    wa_buf_reset(&got);
    assert_int_equal(wa_container_read_all(c, NULL, sink, &err), WA_UNAVAILABLE);
}

static void
make_small_object(wa_buf *object, uint8_t *data, size_t len)
{
    WA_CLEANUP(wa_json_freep) json_t *bulky = json_object();
    wa_error err = WA_ERROR_INIT;

    wa_json_set_string(bulky, "many", "things");
    assert_ok(write_object(data, len, NULL, len / 3, bulky, object, &err), &err);
}

static void
any_flipped_bit_or_byte_is_found(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) uint8_t *data = make_content(300);
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(MIB), raw = WA_BUF_INIT(MIB);

    make_small_object(&object, data, 300);
    for (size_t i = 0; i < object.len; i++) {
        for (unsigned flip = 1; flip < 256; flip++) {
            wa_error err = WA_ERROR_INIT;
            object.data[i] ^= (char)flip;
            wa_status status = wa_container_unpack(object.data, object.len, "o", &raw, NULL, &err);
            if (status != WA_CORRUPT && status != WA_NO_SPACE && status != WA_UNSUPPORTED)
                fail_msg("byte %zu of %zu, flip %02x: %s", i, object.len, flip,
                         wa_status_name(status));
            assert_int_equal(raw.len, 0);
            object.data[i] ^= (char)flip;
        }
    }
    wa_error err = WA_ERROR_INIT;
    assert_ok(wa_container_unpack(object.data, object.len, "o", &raw, NULL, &err), &err);
}

/* A frame that is longer than its window says how large the window is; a larger one changes
 * nothing. */
static void
a_change_that_zstd_does_not_notice_is_found(void **state)
{
    (void)state;
    const size_t len = 3 * MIB;
    WA_CLEANUP(wa_freep) uint8_t *data = make_content(len);
    WA_CLEANUP(wa_freep) uint8_t *out = wa_malloc(len);
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(8 * MIB);
    WA_CLEANUP(wa_buf_done) wa_buf raw = WA_BUF_INIT(8 * MIB);
    WA_CLEANUP(wa_decoder_freep) wa_decoder *d = wa_decoder_new();
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&raw);
    wa_error err = WA_ERROR_INIT;

    assert_ok(write_object(data, len, NULL, WA_FRAME_PACK, NULL, &object, &err), &err);
    object.data[5] ^= 1;
    WA_CLEANUP(wa_ranges_freep)
    wa_ranges *from = wa_ranges_of_memory(object.data, object.len, "o");
    assert_ok(wa_container_open(from, &c, &err), &err);
    assert_ok(wa_container_read(c, d, 0, out, len, &err), &err);
    assert_memory_equal(out, data, len);
    assert_int_equal(wa_container_read_all(c, NULL, sink, &err), WA_CORRUPT);
    assert_int_equal(wa_container_read_into(c, NULL, out, len, &err), WA_CORRUPT);
    wa_buf_reset(&raw);
    assert_int_equal(wa_container_unpack(object.data, object.len, "o", &raw, NULL, &err),
                     WA_CORRUPT);
}

/* Other frames than those that the facts are about, all of them valid: only xxh3 tells. */
static void
frames_of_another_content_are_found(void **state)
{
    (void)state;
    WA_CLEANUP(wa_json_freep) json_t *facts = make_facts();
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(MIB);
    WA_CLEANUP(wa_buf_done) wa_buf raw = WA_BUF_INIT(MIB);
    char hex[WA_CRC_HEX];
    wa_error err = WA_ERROR_INIT;

    assert_ok(wa_container_pack("abc", 3, 3, facts, NULL, &object, &err), &err);
    size_t at = 0;
    while (memcmp(object.data + at, "{\"v\":1", 6) != 0)
        at++;
    char *digit = strstr(object.data + at, "\"xxh3\":\"") + 8;
    char *crc = strstr(object.data + at, ",\"crc\":\"");
    *digit = *digit == '0' ? '1' : '0';
    wa_container_crc_text(wa_crc32c(0, object.data + at, (size_t)(crc - object.data) - at), hex);
    memcpy(crc + 8, hex, 8);
    assert_int_equal(wa_container_unpack(object.data, object.len, "o", &raw, NULL, &err),
                     WA_CORRUPT);
    assert_non_null(strstr(err.message, "its content is not the one"));
}

static void
a_frame_header_that_the_writer_does_not_make_is_refused(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) uint8_t *data = make_content(900);
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(MIB);
    WA_CLEANUP(wa_decoder_freep) wa_decoder *d = wa_decoder_new();
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    wa_error err = WA_ERROR_INIT;
    uint8_t out[900];

    make_small_object(&object, data, 900);
    object.data[4] ^= 0x10; /* the descriptor's unused bit, which zstd ignores */
    WA_CLEANUP(wa_ranges_freep)
    wa_ranges *from = wa_ranges_of_memory(object.data, object.len, "o");
    assert_ok(wa_container_open(from, &c, &err), &err);
    assert_int_equal(wa_container_read(c, d, 0, out, 300, &err), WA_CORRUPT);
    assert_ok(wa_container_read(c, d, 300, out, 600, &err), &err);
}

static void
truncation_at_any_length_is_found(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) uint8_t *data = make_content(300);
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(MIB), raw = WA_BUF_INIT(MIB);

    make_small_object(&object, data, 300);
    for (size_t len = 0; len < object.len; len++) {
        wa_error err = WA_ERROR_INIT;
        assert_int_equal(wa_container_unpack(object.data, len, "o", &raw, NULL, &err), WA_CORRUPT);
        assert_int_equal(
            wa_container_unpack(object.data + object.len - len, len, "o", &raw, NULL, &err),
            WA_CORRUPT);
        assert_int_equal(raw.len, 0);
    }
}

static void
a_damaged_frame_does_not_spoil_the_others(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) uint8_t *data = make_content(900);
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(MIB), all = WA_BUF_INIT(MIB);
    WA_CLEANUP(wa_decoder_freep) wa_decoder *d = wa_decoder_new();
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_buf(&all);
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = make_pool(2);
    wa_error err = WA_ERROR_INIT;
    uint8_t out[900];

    make_small_object(&object, data, 900);
    WA_CLEANUP(wa_ranges_freep) wa_ranges *from = wa_ranges_of_memory(object.data, object.len, "o");
    assert_ok(wa_container_open(from, &c, &err), &err);
    wa_frame_info f = wa_container_frame(c, 1);
    object.data[f.offset + f.size - 1] ^= 1;
    assert_ok(wa_container_read(c, d, 0, out, 300, &err), &err);
    assert_memory_equal(out, data, 300);
    assert_ok(wa_container_read(c, d, 600, out, 300, &err), &err);
    assert_memory_equal(out, data + 600, 300);
    assert_int_equal(wa_container_read(c, d, 299, out, 2, &err), WA_CORRUPT);
    assert_non_null(strstr(err.message, "\"o\""));
    assert_int_equal(wa_container_read_all(c, pool, sink, &err), WA_CORRUPT);
    assert_int_equal(wa_container_read_into(c, pool, out, 900, &err), WA_CORRUPT);
}

static void
facts_keep_their_order_and_kind_comes_first(void **state)
{
    (void)state;
    WA_CLEANUP(wa_json_freep) json_t *facts = make_facts();
    WA_CLEANUP(wa_json_freep) json_t *bulky = json_object();
    WA_CLEANUP(wa_json_freep) json_t *read = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(MIB);
    wa_error err = WA_ERROR_INIT;

    wa_json_set_string(bulky, "many", "things");
    assert_ok(wa_container_pack("abc", 3, 3, facts, bulky, &object, &err), &err);
    WA_CLEANUP(wa_ranges_freep) wa_ranges *from = wa_ranges_of_memory(object.data, object.len, "o");
    assert_ok(wa_container_open(from, &c, &err), &err);
    WA_CLEANUP(wa_freep) char *text = wa_json_dump(wa_container_facts(c), 0);
    assert_ptr_equal(
        strstr(text, "{\"v\":1,\"kind\":\"test\",\"note\":\"any\",\"raw_size\":3,\"xxh3\":"), text);
    assert_ok(wa_container_bulky(c, &read, &err), &err);
    assert_string_equal(wa_json_string_or(read, "many", ""), "things");
    /* the checksum of the facts is what the documentation says */
    const char *crc = strstr(text, ",\"crc\":\"");
    char hex[WA_CRC_HEX];
    assert_memory_equal(crc + 8,
                        wa_container_crc_text(wa_crc32c(0, text, (size_t)(crc - text)), hex), 8);
}

static void
facts_that_are_too_large_are_refused(void **state)
{
    (void)state;
    WA_CLEANUP(wa_json_freep) json_t *facts = make_facts();
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(MIB);
    WA_CLEANUP(wa_freep) char *text = wa_calloc(1, WA_FACTS_MAX + 1);
    wa_error err = WA_ERROR_INIT;

    memset(text, 'x', WA_FACTS_MAX);
    wa_json_set_string(facts, "long", text);
    wa_buf_puts(&object, "before");
    assert_int_equal(wa_container_pack("abc", 3, 3, facts, NULL, &object, &err), WA_INVALID);
    assert_string_equal(wa_buf_str(&object), "before");
}

static void
bulky_facts_that_are_not_there_are_not_found(void **state)
{
    (void)state;
    WA_CLEANUP(wa_json_freep) json_t *facts = make_facts();
    WA_CLEANUP(wa_json_freep) json_t *read = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(MIB);
    wa_error err = WA_ERROR_INIT;

    assert_ok(wa_container_pack("abc", 3, 3, facts, NULL, &object, &err), &err);
    WA_CLEANUP(wa_ranges_freep) wa_ranges *from = wa_ranges_of_memory(object.data, object.len, "o");
    assert_ok(wa_container_open(from, &c, &err), &err);
    assert_int_equal(wa_container_bulky(c, &read, &err), WA_NOT_FOUND);
}

/* A sink that fails after some calls. */
typedef struct failing_sink {
    wa_sink base;
    int calls_left;
} failing_sink;

static wa_status
failing_write(wa_sink *sink, const void *data, size_t len, wa_error *err)
{
    (void)data;
    (void)len;
    if (((failing_sink *)sink)->calls_left-- == 0)
        return wa_error_set(err, WA_UNAVAILABLE, "the store is away");
    return WA_OK;
}

static const wa_sink_ops failing_ops = {failing_write, NULL, NULL};

static void
a_failing_sink_fails_the_writer_and_free_waits(void **state)
{
    (void)state;
    const size_t len = 100000;
    WA_CLEANUP(wa_freep) uint8_t *data = make_content(len);
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = make_pool(3);
    WA_CLEANUP(wa_json_freep) json_t *facts = make_facts();
    wa_status status = WA_UNAVAILABLE;

    for (int calls = 0; status != WA_OK; calls++) {
        WA_CLEANUP(wa_container_writer_freep) wa_container_writer *w = NULL;
        failing_sink sink = {{&failing_ops}, calls};
        wa_error err = WA_ERROR_INIT;
        assert_true(calls < 100);
        assert_ok(wa_container_writer_new(&sink.base, pool, 1, 5000, &w, &err), &err);
        status = calls % 2 ? wa_container_write(w, data, len, &err)
                           : wa_container_write_lent(w, data, len, &err);
        if (status == WA_OK)
            status = wa_container_finish(w, facts, NULL, &err);
        if (status != WA_OK) {
            assert_int_equal(status, WA_UNAVAILABLE);
            assert_string_equal(err.message, "the store is away");
            assert_int_equal(wa_container_write(w, data, 1, &err), WA_FAILED);
        }
    }
}

static void
a_cap_on_the_content_is_kept(void **state)
{
    (void)state;
    WA_CLEANUP(wa_json_freep) json_t *facts = make_facts();
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(MIB), raw = WA_BUF_INIT(100);
    WA_CLEANUP(wa_freep) uint8_t *data = make_content(101);
    wa_error err = WA_ERROR_INIT;

    assert_ok(wa_container_pack(data, 101, 3, facts, NULL, &object, &err), &err);
    assert_int_equal(wa_container_unpack(object.data, object.len, "o", &raw, NULL, &err),
                     WA_NO_SPACE);
}

/* What `zstd -d -c -q FILE` writes. */
static void
run_zstd(const char *file, wa_buf *out)
{
    char *const argv[] = {(char[]){"zstd"}, (char[]){"-dcq"}, wa_strdup(file), NULL};
    posix_spawn_file_actions_t actions;
    int fds[2], wait_status;
    char piece[65536];
    ssize_t got;
    pid_t pid;
    wa_error err = WA_ERROR_INIT;

    assert_int_equal(pipe(fds), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    posix_spawn_file_actions_addclose(&actions, fds[0]);
    assert_int_equal(posix_spawnp(&pid, "zstd", &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    while ((got = read(fds[0], piece, sizeof piece)) > 0)
        assert_ok(wa_buf_append(out, piece, (size_t)got, &err), &err);
    close(fds[0]);
    assert_int_equal(waitpid(pid, &wait_status, 0), pid);
    assert_int_equal(wait_status, 0);
    free(argv[2]);
}

static void
the_zstd_program_reads_it(void **state)
{
    (void)state;
    const size_t lengths[] = {0, 1, 20000, 3 * MIB};

    for (size_t i = 0; i < WA_ARRAY_SIZE(lengths); i++) {
        WA_CLEANUP(wa_freep) uint8_t *data = make_content(lengths[i]);
        WA_CLEANUP(wa_json_freep) json_t *bulky = make_facts();
        WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(8 * MIB), raw = WA_BUF_INIT(8 * MIB);
        wa_error err = WA_ERROR_INIT;
        char path[] = "/tmp/walagent-test-XXXXXX";
        WA_CLEANUP(wa_closep) int fd = mkstemp(path);

        assert_true(fd >= 0);
        assert_ok(write_object(data, lengths[i], NULL, 10000 + 100000 * i, bulky, &object, &err),
                  &err);
        WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_fd(fd, path);
        assert_ok(wa_sink_write(sink, object.data, object.len, &err), &err);
        assert_ok(wa_sink_finish(sink, &err), &err);
        run_zstd(path, &raw);

        WA_CLEANUP(wa_ranges_freep) wa_ranges *from = NULL;
        WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
        assert_ok(wa_ranges_of_file(path, &from, &err), &err);
        unlink(path);
        assert_int_equal(raw.len, lengths[i]);
        if (raw.len)
            assert_memory_equal(raw.data, data, raw.len);
        assert_ok(wa_container_open(from, &c, &err), &err);
        assert_int_equal(wa_container_size(c), lengths[i]);
    }
}

static void
a_seek_table_larger_than_the_first_read_is_found(void **state)
{
    (void)state;
    const size_t len = 60000;
    WA_CLEANUP(wa_freep) uint8_t *data = make_content(len);
    WA_CLEANUP(wa_buf_done) wa_buf object = WA_BUF_INIT(8 * MIB), raw = WA_BUF_INIT(MIB);
    wa_error err = WA_ERROR_INIT;

    /* tables just below and above 64 KiB, so that the facts lie on either side of the first read */
    for (size_t frame = 5; frame <= 9; frame++) {
        wa_buf_reset(&object);
        wa_buf_reset(&raw);
        assert_ok(write_object(data, len, NULL, frame, NULL, &object, &err), &err);
        assert_ok(wa_container_unpack(object.data, object.len, "o", &raw, NULL, &err), &err);
        assert_int_equal(raw.len, len);
        assert_memory_equal(raw.data, data, len);
    }
}

static void
a_newer_version_is_unsupported(void **state)
{
    (void)state;
    const char head[] = "{\"v\":2,\"kind\":\"x\"";
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    char crc[WA_CRC_HEX];
    wa_error err = WA_ERROR_INIT;

    wa_container_crc_text(wa_crc32c(0, head, sizeof head - 1), crc);
    WA_CLEANUP(wa_freep) char *text = wa_format("%s,\"crc\":\"%s\"}", head, crc);
    assert_int_equal(wa_container_unseal(text, strlen(text), "facts", &json, &err), WA_UNSUPPORTED);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_of_any_length_comes_back),
        cmocka_unit_test(any_number_of_workers_writes_the_same_bytes),
        cmocka_unit_test(writers_of_any_level_and_frame_size_share_a_pool),
        cmocka_unit_test(space_and_advance_write_what_write_writes),
        cmocka_unit_test(ranges_give_the_same_bytes),
        cmocka_unit_test(frames_that_are_read_in_a_row_come_in_few_reads),
        cmocka_unit_test(any_flipped_bit_or_byte_is_found),
        cmocka_unit_test(a_change_that_zstd_does_not_notice_is_found),
        cmocka_unit_test(frames_of_another_content_are_found),
        cmocka_unit_test(a_frame_header_that_the_writer_does_not_make_is_refused),
        cmocka_unit_test(truncation_at_any_length_is_found),
        cmocka_unit_test(a_damaged_frame_does_not_spoil_the_others),
        cmocka_unit_test(facts_keep_their_order_and_kind_comes_first),
        cmocka_unit_test(facts_that_are_too_large_are_refused),
        cmocka_unit_test(bulky_facts_that_are_not_there_are_not_found),
        cmocka_unit_test(a_failing_sink_fails_the_writer_and_free_waits),
        cmocka_unit_test(a_cap_on_the_content_is_kept),
        cmocka_unit_test(the_zstd_program_reads_it),
        cmocka_unit_test(a_seek_table_larger_than_the_first_read_is_found),
        cmocka_unit_test(a_newer_version_is_unsupported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
