/*
 * support/wal_builder.c - build WAL for tests. The CRC here is computed bit by bit, so that it does
 * not share a mistake with the one under test.
 */
#include "wal_builder.h"

#include "walagent/base/bytes.h"
#include "walagent/base/mem.h"

#include <string.h>

#define HEADER 24u
#define RM_XLOG 0
#define RM_XACT 1
#define RM_HEAP 10
#define HAS_INFO 0x80u

struct wal_builder {
    wal_builder_options o;
    uint8_t *bytes;
    size_t size, capacity;
    wa_lsn prev;
    uint32_t noise;
    uint16_t next_flags; /* for the next page header */
};

static uint32_t
crc32c_slow(uint32_t crc, const uint8_t *p, size_t len)
{
    static uint32_t table[256];

    if (table[1] == 0)
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t reg = i;
            for (int bit = 0; bit < 8; bit++)
                reg = reg >> 1 ^ ((reg & 1) != 0 ? 0x82F63B78u : 0);
            table[i] = reg;
        }
    crc = ~crc;
    for (; len > 0; p++, len--)
        crc = crc >> 8 ^ table[(crc ^ *p) & 255];
    return ~crc;
}

wal_builder *
wal_builder_new(const wal_builder_options *options)
{
    wal_builder *b = wa_calloc(1, sizeof *b);

    if (options != NULL)
        b->o = *options;
    if (b->o.magic == 0)
        b->o.magic = WAL_MAGIC_15;
    if (b->o.segment_size == 0)
        b->o.segment_size = UINT64_C(1) << 20;
    if (b->o.system_identifier == 0)
        b->o.system_identifier = UINT64_C(7000000000000000001);
    if (b->o.tli == 0)
        b->o.tli = 1;
    if (b->o.start == 0)
        b->o.start = b->o.segment_size;
    WA_ASSERT(b->o.start % WA_WAL_PAGE == 0);
    b->prev = b->o.prev != 0 ? b->o.prev : b->o.start - 0x28;
    b->noise = 1;
    return b;
}

void
wal_builder_free(wal_builder *b)
{
    wa_freep(&b->bytes);
    wa_freep(&b);
}

const uint8_t *
wal_bytes(const wal_builder *b)
{
    return b->bytes;
}

uint8_t *
wal_bytes_mutable(wal_builder *b)
{
    return b->bytes;
}

size_t
wal_size(const wal_builder *b)
{
    return b->size;
}

wa_lsn
wal_position(const wal_builder *b)
{
    return b->o.start + b->size;
}

wa_lsn
wal_prev(const wal_builder *b)
{
    return b->prev;
}

void
wal_set_tli(wal_builder *b, wa_tli tli)
{
    b->o.tli = tli;
}

static void
append(wal_builder *b, const void *data, size_t len)
{
    if (b->size + len > b->capacity) {
        b->capacity = (b->size + len) * 2;
        b->bytes = wa_realloc(b->bytes, b->capacity);
    }
    if (data != NULL)
        memcpy(b->bytes + b->size, data, len);
    else
        memset(b->bytes + b->size, 0, len);
    b->size += len;
}

static void
begin_page(wal_builder *b, uint32_t rem_len)
{
    wa_lsn addr = wal_position(b);
    bool is_long = addr % b->o.segment_size == 0;
    uint8_t h[40] = {0};

    wa_put_u16le(h, b->o.magic);
    wa_put_u16le(h + 2, (uint16_t)(b->next_flags | (rem_len > 0 ? 1u : 0u) | (is_long ? 2u : 0u)));
    wa_put_u32le(h + 4, b->o.tli);
    wa_put_u64le(h + 8, addr);
    wa_put_u32le(h + 16, rem_len);
    wa_put_u64le(h + 24, b->o.system_identifier);
    wa_put_u32le(h + 32, (uint32_t)b->o.segment_size);
    wa_put_u32le(h + 36, WA_WAL_PAGE);
    append(b, h, is_long ? 40 : 24);
    b->next_flags = 0;
}

/* Bytes of a record, of which `total` are still to be written, over as many pages as it takes. */
static void
append_paged(wal_builder *b, const uint8_t *p, size_t len, uint32_t total)
{
    while (len > 0) {
        if (wal_position(b) % WA_WAL_PAGE == 0)
            begin_page(b, total);
        size_t room = WA_WAL_PAGE - wal_position(b) % WA_WAL_PAGE;
        size_t n = len < room ? len : room;
        append(b, p, n);
        p += n;
        len -= n;
        total -= (uint32_t)n;
    }
}

/* The record's bytes, owned by the caller. */
static uint8_t *
make_record(const wal_builder *b, uint8_t rmid, uint8_t info, uint32_t xid, const void *body,
            size_t len)
{
    uint8_t *r = wa_calloc(1, HEADER + len);

    wa_put_u32le(r, (uint32_t)(HEADER + len));
    wa_put_u32le(r + 4, xid);
    wa_put_u64le(r + 8, b->prev);
    r[16] = info;
    r[17] = rmid;
    if (len > 0)
        memcpy(r + HEADER, body, len);
    wa_put_u32le(r + 20, crc32c_slow(crc32c_slow(0, r + HEADER, len), r, 20));
    return r;
}

/* Where the next record begins; opens its page when need be. */
static wa_lsn
begin_record(wal_builder *b)
{
    if (wal_position(b) % WA_WAL_PAGE == 0)
        begin_page(b, 0);
    return wal_position(b);
}

wa_lsn
wal_add_raw(wal_builder *b, uint8_t rmid, uint8_t info, uint32_t xid, const void *body, size_t len)
{
    static const uint8_t padding[8];
    WA_CLEANUP(wa_freep) uint8_t *record = make_record(b, rmid, info, xid, body, len);
    wa_lsn lsn = begin_record(b);

    append_paged(b, record, HEADER + len, (uint32_t)(HEADER + len));
    append(b, padding, (size_t)(-b->size & 7));
    b->prev = lsn;
    return lsn;
}

wa_lsn
wal_add(wal_builder *b, uint8_t rmid, uint8_t info, uint32_t xid, const void *main_data, size_t len)
{
    WA_CLEANUP(wa_freep) uint8_t *body = wa_malloc(len + 5);
    size_t head = len <= 255 ? 2 : 5;

    body[0] = len <= 255 ? 255 : 254;
    if (len <= 255)
        body[1] = (uint8_t)len;
    else
        wa_put_u32le(body + 1, (uint32_t)len);
    if (len > 0)
        memcpy(body + head, main_data, len);
    return wal_add_raw(b, rmid, info, xid, body, len > 0 ? head + len : 0);
}

wa_lsn
wal_add_noise(wal_builder *b, uint32_t xid, uint32_t tot_len)
{
    WA_ASSERT(tot_len >= 30);
    size_t len = tot_len - HEADER;
    size_t head = len - 2 <= 255 ? 2 : 5;
    WA_CLEANUP(wa_freep) uint8_t *body = wa_malloc(len);

    body[0] = head == 2 ? 255 : 254;
    if (head == 2)
        body[1] = (uint8_t)(len - head);
    else
        wa_put_u32le(body + 1, (uint32_t)(len - head));
    for (size_t i = head; i < len; i++) {
        b->noise = b->noise * 1664525u + 1013904223u;
        body[i] = (uint8_t)(b->noise >> 24);
    }
    return wal_add_raw(b, RM_HEAP, 0, xid, body, len);
}

static wa_lsn
add_xact(wal_builder *b, uint8_t info, uint32_t xid, wa_time time)
{
    uint8_t data[8];

    wa_put_u64le(data, (uint64_t)time);
    return wal_add(b, RM_XACT, info, xid, data, sizeof data);
}

wa_lsn
wal_add_commit(wal_builder *b, uint32_t xid, wa_time time)
{
    return add_xact(b, 0x00, xid, time);
}

wa_lsn
wal_add_abort(wal_builder *b, uint32_t xid, wa_time time)
{
    return add_xact(b, 0x20, xid, time);
}

wa_lsn
wal_add_commit_prepared(wal_builder *b, uint32_t prepared_xid, wa_time time)
{
    uint8_t data[16];

    wa_put_u64le(data, (uint64_t)time);
    wa_put_u32le(data + 8, 1u << 4);
    wa_put_u32le(data + 12, prepared_xid);
    return wal_add(b, RM_XACT, 0x30 | HAS_INFO, 0, data, sizeof data);
}

wa_lsn
wal_add_restore_point(wal_builder *b, const char *name, wa_time time)
{
    uint8_t data[72] = {0};

    wa_put_u64le(data, (uint64_t)time);
    memcpy(data + 8, name, strnlen(name, 63));
    return wal_add(b, RM_XLOG, 0x70, 0, data, sizeof data);
}

wa_lsn
wal_add_checkpoint(wal_builder *b, bool shutdown, wa_lsn redo, wa_tli tli, wa_tli prev_tli,
                   wa_time time)
{
    uint8_t data[88] = {0};

    wa_put_u64le(data, redo);
    wa_put_u32le(data + 8, tli);
    wa_put_u32le(data + 12, prev_tli);
    data[16] = 1;
    wa_put_u64le(data + 64, (uint64_t)(wa_time_to_unix_us(time) / 1000000));
    return wal_add(b, RM_XLOG, shutdown ? 0x00 : 0x10, 0, data, sizeof data);
}

wa_lsn
wal_add_end_of_recovery(wal_builder *b, wa_tli tli, wa_tli prev_tli, wa_time time)
{
    uint8_t data[16];

    wa_put_u64le(data, (uint64_t)time);
    wa_put_u32le(data + 8, tli);
    wa_put_u32le(data + 12, prev_tli);
    return wal_add(b, RM_XLOG, 0x90, 0, data, sizeof data);
}

wa_lsn
wal_add_switch(wal_builder *b)
{
    wa_lsn lsn = wal_add_raw(b, RM_XLOG, 0x40, 0, NULL, 0);

    wal_pad_segment(b);
    return lsn;
}

wa_lsn
wal_add_void_record(wal_builder *b, uint32_t tot_len, uint32_t written)
{
    return wal_add_void_record_as(b, tot_len, written, begin_record(b));
}

wa_lsn
wal_add_void_record_as(wal_builder *b, uint32_t tot_len, uint32_t written, wa_lsn claimed)
{
    uint8_t data[16] = {0};
    wa_lsn prev = b->prev;
    WA_CLEANUP(wa_freep) uint8_t *body = wa_calloc(1, tot_len);
    WA_CLEANUP(wa_freep)
    uint8_t *record = make_record(b, RM_HEAP, 0, 1, body, tot_len - HEADER);
    wa_lsn lsn = begin_record(b);
    uint32_t done = 0;

    do {
        if (wal_position(b) % WA_WAL_PAGE == 0)
            begin_page(b, tot_len - done);
        uint32_t room = (uint32_t)(WA_WAL_PAGE - wal_position(b) % WA_WAL_PAGE);
        WA_ASSERT(done + room < tot_len);
        append(b, record + done, room);
        done += room;
    } while (done < written);

    b->prev = prev;
    b->next_flags = 8;
    wa_put_u64le(data, claimed);
    wal_add(b, RM_XLOG, 0xD0, 0, data, sizeof data);
    return lsn;
}

void
wal_fill_until(wal_builder *b, wa_lsn lsn)
{
    while (wal_position(b) < lsn) {
        b->noise = b->noise * 1664525u + 1013904223u;
        wal_add_noise(b, 700 + (b->noise >> 28), 30 + (b->noise >> 8) % 400);
    }
}

void
wal_fill_segment(wal_builder *b)
{
    wa_lsn end = (wal_position(b) / b->o.segment_size + 1) * b->o.segment_size;

    wal_fill_until(b, end - 4000);
    /* Everything is on the last page now: the rest in records that fit. */
    while (wal_position(b) < end) {
        uint64_t left = end - wal_position(b);
        wal_add_noise(b, 701, left <= 1024 ? (uint32_t)left : 512);
    }
}

void
wal_pad_segment(wal_builder *b)
{
    size_t over = wal_position(b) % b->o.segment_size;

    if (over > 0)
        append(b, NULL, b->o.segment_size - over);
}
