/*
 * pg/walreader.c - read and check WAL records, fed in any portions.
 *
 *   0  u32 tot_len     whole record, this header included; never straddles a page
 *   4  u32 xid
 *   8  u64 prev        where the record before begins
 *  16  u8 info, u8 rmid, 2 bytes zero
 *  20  u32 crc         CRC-32C over bytes 24 to tot_len, then over bytes 0 to 20
 *
 * Records begin 8-aligned, padded with zeroes. One that lies within a page and a portion is checked
 * where it lies; any other is followed with a running CRC, and the first WA_RECORD_KEEP bytes of
 * its body are copied.
 */
#include "walreader_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/base/crc32c.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Last and first id of PostgreSQL's own resource managers and of extensions'. */
#define RM_LAST_BUILTIN 21u
#define RM_FIRST_CUSTOM 128u

typedef struct sink {
    wa_record_fn fn;
    void *arg;
} sink;

wa_walreader *
wa_walreader_new(uint64_t segment_size)
{
    WA_ASSERT(wa_segment_size_valid(segment_size));
    wa_walreader *r = wa_calloc(1, sizeof *r);
    r->segment_size = segment_size;
    return r;
}

void
wa_walreader_free(wa_walreader *r)
{
    if (r == NULL)
        return;
    wa_freep(&r->tlis);
    wa_freep(&r);
}

void
wa_walreader_expect_system(wa_walreader *r, uint64_t system_identifier)
{
    r->expected_system = system_identifier;
}

void
wa_walreader_expect_timelines(wa_walreader *r, const wa_tli *tlis, size_t count)
{
    wa_freep(&r->tlis);
    r->tli_count = count;
    r->tli_at = 0;
    if (count == 0)
        return;
    r->tlis = wa_reallocarray(NULL, count, sizeof *tlis);
    memcpy(r->tlis, tlis, count * sizeof *tlis);
}

void
wa_walreader_lenient(wa_walreader *r, bool lenient)
{
    r->lenient = lenient;
}

void
wa_walreader_start(wa_walreader *r, wa_lsn lsn, wa_lsn prev_lsn)
{
    WA_ASSERT(lsn % WA_WAL_PAGE == 0);
    r->state = WAL_AT_RECORD;
    r->first_page = true;
    r->pos = r->end = lsn;
    r->fail_at = r->last_record = r->page_addr = 0;
    r->prev = prev_lsn;
    r->prev_known = prev_lsn != 0;
    r->overwrite_due = false;
    r->page_have = 0;
    r->magic = 0;
    r->page_tli = 0;
    r->tli_at = 0;
    r->system = 0;
    r->have = r->tot_len = 0;
    r->skip_to = 0;
}

void
wa_walreader_start_record(wa_walreader *r, wa_lsn lsn)
{
    wa_walreader_start(r, lsn - lsn % WA_WAL_PAGE, 0);
    r->skip_to = r->end = lsn;
}

wa_status
wal_reject(wa_walreader *r, wa_lsn fail_at, wa_status status, wa_error *err, const char *fmt, ...)
{
    char text[256];
    va_list args;

    r->fail_at = fail_at;
    if (r->lenient) {
        r->state = WAL_ENDED;
        return WA_OK;
    }
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    r->state = WAL_BROKEN;
    return wa_error_set(err, status, "%s", text);
}

static wa_status
reject_record(wa_walreader *r, wa_lsn lsn, uint32_t bytes, wa_error *err, const char *what,
              uint64_t is, uint64_t expected)
{
    char at[WA_LSN_TEXT];

    return wal_reject(r, lsn + bytes, WA_CORRUPT, err,
                      "record at %s: %s is %" PRIX64 " instead of %" PRIX64, wa_lsn_format(lsn, at),
                      what, is, expected);
}

static wa_status
check_length(wa_walreader *r, wa_lsn lsn, uint32_t tot_len, wa_error *err)
{
    char at[WA_LSN_TEXT];

    if (tot_len >= WAL_RECORD_HEADER && tot_len <= WAL_RECORD_MAX)
        return WA_OK;
    return wal_reject(r, lsn + 4, WA_CORRUPT, err, "record at %s: length %" PRIu32 " is impossible",
                      wa_lsn_format(lsn, at), tot_len);
}

static wa_status
check_header(wa_walreader *r, wa_lsn lsn, const uint8_t *h, wa_error *err)
{
    uint64_t prev = wa_get_u64le(h + 8);
    uint8_t rmid = h[17];
    char at[WA_LSN_TEXT], is[WA_LSN_TEXT], due[WA_LSN_TEXT];

    if (__builtin_expect(r->prev_known ? prev != r->prev : prev >= lsn, 0))
        return wal_reject(r, lsn + WAL_RECORD_HEADER, WA_CORRUPT, err,
                          "record at %s: links to %s instead of %s", wa_lsn_format(lsn, at),
                          wa_lsn_format(prev, is),
                          r->prev_known ? wa_lsn_format(r->prev, due) : "a record before it");
    if (__builtin_expect(rmid > RM_LAST_BUILTIN && rmid < RM_FIRST_CUSTOM, 0))
        return wal_reject(r, lsn + WAL_RECORD_HEADER, WA_CORRUPT, err,
                          "record at %s: there is no resource manager %u", wa_lsn_format(lsn, at),
                          rmid);
    return WA_OK;
}

/* After a void record the server says first which one it gave up. */
static wa_status
check_overwrite(wa_walreader *r, const wa_record *record, wa_error *err)
{
    uint32_t len = 0;
    const uint8_t *main_data = wa_record_main(record, &len);
    char at[WA_LSN_TEXT];

    if (record->rmid != WAL_RM_XLOG || (record->info & 0xf0) != WAL_XLOG_OVERWRITE || len < 8)
        return wal_reject(r, record->end, WA_CORRUPT, err,
                          "record at %s: should say which record it overwrites",
                          wa_lsn_format(record->lsn, at));
    wa_lsn of = wa_get_u64le(main_data);
    if (r->overwrite_of != 0 && of != r->overwrite_of)
        return reject_record(r, record->lsn, record->tot_len, err, "overwritten record", of,
                             r->overwrite_of);
    r->overwrite_due = false;
    return WA_OK;
}

/* A record of which header, CRC and padding are right. */
static wa_status
deliver(wa_walreader *r, const sink *s, const wa_record *record, wa_lsn aligned_end, wa_error *err)
{
    if (__builtin_expect(r->overwrite_due, 0)) {
        WA_TRY(check_overwrite(r, record, err));
        if (r->state == WAL_ENDED)
            return WA_OK;
    }
    if (s->fn != NULL) {
        wa_status status = s->fn(s->arg, record, err);
        if (status != WA_OK) {
            r->state = WAL_BROKEN;
            r->fail_at = aligned_end;
            return status;
        }
    }
    r->end = aligned_end;
    r->prev = r->last_record = record->lsn;
    r->prev_known = true;
    r->state = WAL_AT_RECORD;
    if (record->rmid == WAL_RM_XLOG && (record->info & 0xf0) == WAL_XLOG_SWITCH &&
        r->end % r->segment_size != 0)
        r->state = WAL_SWITCHED;
    return WA_OK;
}

static inline wa_record
describe(const wa_walreader *r, wa_lsn lsn, const uint8_t *h, const uint8_t *body)
{
    uint32_t tot_len = wa_get_u32le(h);
    uint32_t body_len = tot_len - WAL_RECORD_HEADER;

    return (wa_record){.lsn = lsn,
                       .prev = wa_get_u64le(h + 8),
                       .tot_len = tot_len,
                       .xid = wa_get_u32le(h + 4),
                       .rmid = h[17],
                       .info = h[16],
                       .magic = r->magic,
                       .body = body,
                       .body_len = body_len < WA_RECORD_KEEP ? body_len : WA_RECORD_KEEP};
}

/* The last `count` (0 to 7) of the 8 bytes that end a record, as a number. */
static inline uint64_t
padding(const uint8_t *last, uint32_t count)
{
    return wa_get_u64le(last) >> 8 >> (56 - 8 * count);
}

/* Records that lie wholly in the n bytes at p. Returns through *ret_used how many were taken. */
static wa_status
read_in_place(wa_walreader *r, const sink *s, const uint8_t *p, size_t n, size_t *ret_used,
              wa_error *err)
{
    const uint8_t *begin = p;

    while (r->state == WAL_AT_RECORD && n >= WAL_RECORD_HEADER) {
        uint32_t tot_len = wa_get_u32le(p);
        uint32_t aligned = wal_align8(tot_len);
        if (tot_len < WAL_RECORD_HEADER || tot_len > n || aligned > n)
            break;
        wa_lsn lsn = r->pos;
        *ret_used = (size_t)(p - begin);
        WA_TRY(check_header(r, lsn, p, err));
        if (__builtin_expect(r->state != WAL_AT_RECORD, 0))
            return WA_OK;
        uint32_t crc = wa_crc32c_record(p, tot_len);
        if (__builtin_expect(crc != wa_get_u32le(p + 20), 0))
            return reject_record(r, lsn, tot_len, err, "CRC", crc, wa_get_u32le(p + 20));
        if (__builtin_expect(padding(p + aligned - 8, aligned - tot_len) != 0, 0))
            return reject_record(r, lsn, aligned, err, "padding", 1, 0);
        wa_record record = describe(r, lsn, p, p + WAL_RECORD_HEADER);
        record.end = lsn + tot_len;
        r->pos += aligned;
        WA_TRY(deliver(r, s, &record, r->pos, err));
        p += aligned;
        n -= aligned;
    }
    *ret_used = (size_t)(p - begin);
    return WA_OK;
}

/* Bytes of a record's header. Sets the length when it is there, ENDED when it is 0. */
static wa_status
take_header(wa_walreader *r, const uint8_t *p, size_t n, size_t *ret_used, wa_error *err)
{
    size_t want = (r->have < 4 ? 4 : WAL_RECORD_HEADER) - r->have;
    size_t take = n < want ? n : want;

    memcpy(r->header + r->have, p, take);
    r->have += (uint32_t)take;
    r->pos += take;
    *ret_used = take;
    if (take < want)
        return WA_OK;
    if (r->have == WAL_RECORD_HEADER)
        return check_header(r, r->record_lsn, r->header, err);
    r->tot_len = wa_get_u32le(r->header);
    if (r->tot_len == 0) {
        r->fail_at = r->pos;
        r->state = WAL_ENDED;
        return WA_OK;
    }
    return check_length(r, r->record_lsn, r->tot_len, err);
}

static size_t
take_body(wa_walreader *r, const uint8_t *p, size_t n)
{
    size_t left = r->tot_len - r->have;
    size_t take = n < left ? n : left;
    uint32_t at = r->have - WAL_RECORD_HEADER;

    r->crc = wa_crc32c(r->crc, p, take);
    if (at < WA_RECORD_KEEP) {
        size_t room = WA_RECORD_KEEP - at;
        memcpy(r->body + at, p, take < room ? take : room);
    }
    r->have += (uint32_t)take;
    r->pos += take;
    return take;
}

/* The body is complete: compare its CRC, then look at the padding as it comes. */
static wa_status
check_body(wa_walreader *r, wa_error *err)
{
    uint32_t crc = wa_crc32c(r->crc, r->header, 20);
    uint32_t expected = wa_get_u32le(r->header + 20);

    if (crc == expected)
        return WA_OK;
    (void)reject_record(r, r->record_lsn, 0, err, "CRC", crc, expected);
    r->fail_at = r->pos;
    return r->state == WAL_ENDED ? WA_OK : err->status;
}

static wa_status
take_padding(wa_walreader *r, const sink *s, const uint8_t *p, size_t n, size_t *ret_used,
             wa_error *err)
{
    size_t left = wal_align8(r->tot_len) - r->have;
    size_t take = n < left ? n : left;

    *ret_used = take;
    if (!wal_is_zero(p, take)) {
        (void)reject_record(r, r->record_lsn, 0, err, "padding", 1, 0);
        r->fail_at = r->pos + take;
        return r->state == WAL_ENDED ? WA_OK : err->status;
    }
    r->have += (uint32_t)take;
    r->pos += take;
    if (take < left)
        return WA_OK;

    wa_record record = describe(r, r->record_lsn, r->header, r->body);
    record.magic = r->record_magic;
    record.end = r->pos - (r->have - r->tot_len);
    return deliver(r, s, &record, r->pos, err);
}

/* More of the record that is being followed, n bytes of one page at most. */
static wa_status
continue_record(wa_walreader *r, const sink *s, const uint8_t *p, size_t n, size_t *ret_used,
                wa_error *err)
{
    size_t used = 0, took = 0;

    while (used < n && r->state == WAL_IN_RECORD && r->have < WAL_RECORD_HEADER) {
        WA_TRY(take_header(r, p + used, n - used, &took, err));
        used += took;
    }
    bool body_left = r->state == WAL_IN_RECORD && r->have >= WAL_RECORD_HEADER;
    if (body_left && !r->body_checked) {
        used += take_body(r, p + used, n - used);
        if (r->have == r->tot_len) {
            r->body_checked = true;
            WA_TRY(check_body(r, err));
        }
    }
    if (r->state == WAL_IN_RECORD && r->have >= WAL_RECORD_HEADER && r->body_checked) {
        WA_TRY(take_padding(r, s, p + used, n - used, &took, err));
        used += took;
    }
    *ret_used = used;
    return WA_OK;
}

static wa_status
begin_record(wa_walreader *r, const sink *s, const uint8_t *p, size_t n, size_t *ret_used,
             wa_error *err)
{
    WA_TRY(read_in_place(r, s, p, n, ret_used, err));
    if (r->state == WAL_AT_RECORD && *ret_used < n) {
        r->state = WAL_IN_RECORD;
        r->record_lsn = r->pos;
        r->record_magic = r->magic;
        r->have = r->tot_len = r->crc = 0;
        r->body_checked = false;
    }
    return WA_OK;
}

/* Zeroes up to the segment's end, page headers too. */
static wa_status
take_switched(wa_walreader *r, const uint8_t *p, size_t n, size_t *ret_used, wa_error *err)
{
    uint64_t left = r->segment_size - r->pos % r->segment_size;
    size_t take = n < left ? n : (size_t)left;
    char at[WA_LSN_TEXT];

    if (!wal_is_zero(p, take))
        return wal_reject(r, r->pos + take, WA_CORRUPT, err,
                          "segment is not zero behind the switch record at %s",
                          wa_lsn_format(r->last_record, at));
    r->pos += take;
    *ret_used = take;
    if (take == left) {
        r->end = r->pos;
        r->state = WAL_AT_RECORD;
    }
    return WA_OK;
}

static wa_status
take_page_header(wa_walreader *r, const uint8_t *p, size_t n, size_t *ret_used, wa_error *err)
{
    wa_lsn addr = r->pos - r->page_have;
    uint32_t size = wal_page_header_size(r, addr);
    size_t want = size - r->page_have;
    size_t take = n < want ? n : want;
    const uint8_t *header = p;

    if (take < size) {
        memcpy(r->page_header + r->page_have, p, take);
        header = r->page_header;
    }
    r->page_have += (uint32_t)take;
    r->pos += take;
    *ret_used = take;
    if (take < want)
        return WA_OK;
    r->page_have = 0;
    return wal_check_page(r, addr, header, err);
}

static wa_status
take_content(wa_walreader *r, const sink *s, const uint8_t *p, size_t n, size_t *ret_used,
             wa_error *err)
{
    size_t in_page = WA_WAL_PAGE - r->pos % WA_WAL_PAGE;

    if (n > in_page)
        n = in_page;
    if (r->state == WAL_AT_RECORD)
        return begin_record(r, s, p, n, ret_used, err);
    if (r->state == WAL_IN_RECORD)
        return continue_record(r, s, p, n, ret_used, err);

    WA_ASSERT(r->state == WAL_SKIPPING);
    size_t take = n < r->skip_left ? n : r->skip_left;
    r->skip_left -= (uint32_t)take;
    r->pos += take;
    *ret_used = take;
    if (r->skip_left == 0)
        r->state = WAL_AT_RECORD;
    return WA_OK;
}

static wa_status
feed(wa_walreader *r, const sink *s, const uint8_t *p, size_t len, wa_error *err)
{
    while (len > 0 && r->state < WAL_ENDED) {
        size_t used = 0;
        if (r->state == WAL_SWITCHED)
            WA_TRY(take_switched(r, p, len, &used, err));
        else if (r->page_have > 0 || r->pos % WA_WAL_PAGE == 0)
            WA_TRY(take_page_header(r, p, len, &used, err));
        else
            WA_TRY(take_content(r, s, p, len, &used, err));
        p += used;
        len -= used;
    }
    return WA_OK;
}

wa_status
wa_walreader_feed(wa_walreader *r, const void *data, size_t len, wa_record_fn fn, void *arg,
                  wa_wal_end *ret_end, wa_error *err)
{
    wa_lsn behind = r->pos + len;
    sink s = {fn, arg};

    if (r->state == WAL_BROKEN) {
        *err = r->failure;
        return err->status;
    }
    wa_status status = feed(r, &s, data, len, err);
    r->pos = behind;
    if (status != WA_OK) {
        r->failure = *err;
        return status;
    }
    if (ret_end != NULL)
        *ret_end = r->state == WAL_ENDED      ? WA_WAL_END
                   : r->state == WAL_UNPARSED ? WA_WAL_UNPARSED
                                              : WA_WAL_MORE;
    return WA_OK;
}

wa_lsn
wa_walreader_end(const wa_walreader *r)
{
    return r->end;
}

wa_lsn
wa_walreader_last_record(const wa_walreader *r)
{
    return r->last_record;
}

wa_lsn
wa_walreader_fed(const wa_walreader *r)
{
    return r->pos;
}

bool
wa_walreader_in_record(const wa_walreader *r)
{
    return r->state == WAL_IN_RECORD && r->tot_len > 0;
}

wa_tli
wa_walreader_page_tli(const wa_walreader *r)
{
    return r->page_tli;
}

uint64_t
wa_walreader_system(const wa_walreader *r)
{
    return r->system;
}
