/*
 * pg/walreader_page.c - WAL page headers: is this the page that must follow?
 *
 *   0  u16 magic        tells the major        16  u32 rem_len   left of the record before
 *   2  u16 info         flags                  20  4 bytes of padding, zero
 *   4  u32 tli                                 long header, on a segment's first page:
 *   8  u64 pageaddr     its own LSN            24  u64 system identifier
 *                                              32  u32 segment size, 36 u32 page size
 *
 * Little-endian, as on every machine that PostgreSQL's packages are built for today.
 */
#include "walreader_internal.h"

#include "walagent/base/bytes.h"

#include <inttypes.h>

typedef struct page {
    wa_lsn addr; /* where it is */
    uint16_t magic, info;
    wa_tli tli;
    wa_lsn pageaddr; /* where it says it is */
    uint32_t rem_len;
} page;

int
wa_wal_magic_major(uint16_t magic)
{
    static const struct {
        uint16_t magic;
        int major;
    } known[] = {{0xD106, 13}, {0xD10D, 14}, {0xD110, 15},
                 {0xD113, 16}, {0xD116, 17}, {0xD118, 18}};

    for (size_t i = 0; i < WA_ARRAY_SIZE(known); i++)
        if (known[i].magic == magic)
            return known[i].major;
    return 0;
}

bool
wal_is_zero(const uint8_t *p, size_t len)
{
    while (len > 0 && ((uintptr_t)p & 7) != 0) {
        if (*p != 0)
            return false;
        p++, len--;
    }
    for (; len >= 64; p += 64, len -= 64) {
        uint64_t any = 0;
        for (int i = 0; i < 64; i += 8)
            any |= wa_get_u64le(p + i);
        if (any != 0)
            return false;
    }
    for (; len > 0; p++, len--)
        if (*p != 0)
            return false;
    return true;
}

#define REJECT(r, pg, ...)                                                                         \
    wal_reject(r, (pg)->addr + wal_page_header_size(r, (pg)->addr), WA_CORRUPT, err, __VA_ARGS__)

/* A page that nobody has written yet, or that belongs to a recycled file: the end, if a record
 * should begin here. */
static wa_status
end_or_reject(wa_walreader *r, const page *pg, const char *what, wa_error *err)
{
    char at[WA_LSN_TEXT], says[WA_LSN_TEXT];

    if (r->state == WAL_AT_RECORD) {
        r->fail_at = pg->addr + wal_page_header_size(r, pg->addr);
        r->state = WAL_ENDED;
        return WA_OK;
    }
    return REJECT(r, pg, "page at %s: %s %s in the middle of a record", wa_lsn_format(pg->addr, at),
                  what, wa_lsn_format(pg->pageaddr, says));
}

/* Returns OK with a terminal state, or OK with the state unchanged when the magic is right. */
static wa_status
check_magic(wa_walreader *r, const page *pg, wa_error *err)
{
    char at[WA_LSN_TEXT];

    if (r->magic != 0 && pg->magic != r->magic)
        return REJECT(r, pg, "page at %s: magic number is %04X instead of %04X",
                      wa_lsn_format(pg->addr, at), pg->magic, r->magic);
    if (wa_wal_magic_major(pg->magic) != 0)
        return WA_OK;
    if (pg->magic >= 0xD100 && pg->magic <= 0xDFFF) {
        r->magic = pg->magic;
        r->state = WAL_UNPARSED;
        return WA_OK;
    }
    return REJECT(r, pg, "page at %s: magic number %04X is not one of WAL",
                  wa_lsn_format(pg->addr, at), pg->magic);
}

/* What a segment's first page says about the cluster. */
static wa_status
check_long(wa_walreader *r, const page *pg, const uint8_t *header, wa_error *err)
{
    uint64_t system = wa_get_u64le(header + 24);
    uint32_t segment_size = wa_get_u32le(header + 32);
    uint32_t page_size = wa_get_u32le(header + 36);
    uint64_t expected = r->expected_system != 0 ? r->expected_system : r->system;
    wa_lsn fail_at = pg->addr + WAL_LONG_HEADER;
    char at[WA_LSN_TEXT];

    wa_lsn_format(pg->addr, at);
    if (page_size != WA_WAL_PAGE) {
        wa_status status = REJECT(r, pg, "page at %s: WAL page size is %" PRIu32, at, page_size);
        if (status != WA_OK)
            (void)wa_error_hint(err,
                                "Only servers built with WAL pages of 8192 bytes are supported.");
        return status;
    }
    if (segment_size != r->segment_size)
        return wal_reject(r, fail_at, WA_CONFLICT, err,
                          "page at %s: segment size is %" PRIu32 " instead of %" PRIu64, at,
                          segment_size, r->segment_size);
    if (expected != 0 && system != expected)
        return wal_reject(r, fail_at, WA_CONFLICT, err,
                          "page at %s: system identifier is %" PRIu64 " instead of %" PRIu64, at,
                          system, expected);
    r->system = system;
    return WA_OK;
}

/* A member of the chain, and never an earlier one than the page before had. */
static wa_status
check_tli(wa_walreader *r, const page *pg, wa_error *err)
{
    char at[WA_LSN_TEXT];

    wa_lsn_format(pg->addr, at);
    if (pg->tli == 0 || pg->tli < r->page_tli)
        return REJECT(r, pg, "page at %s: timeline %" PRIu32 " after timeline %" PRIu32, at,
                      pg->tli, r->page_tli);
    if (r->tli_count > 0) {
        size_t i = r->tli_at;
        while (i < r->tli_count && r->tlis[i] != pg->tli)
            i++;
        if (i == r->tli_count)
            return REJECT(r, pg, "page at %s: timeline %" PRIu32 " is not in this history", at,
                          pg->tli);
        r->tli_at = i;
    }
    r->page_tli = pg->tli;
    return WA_OK;
}

/* The record before was given up by its server after a crash: its rest never came. */
static wa_status
void_record(wa_walreader *r, const page *pg, wa_error *err)
{
    char at[WA_LSN_TEXT];

    if (pg->info & WAL_PAGE_CONTINUED || pg->rem_len != 0)
        return REJECT(r, pg, "page at %s: both continues a record and overwrites it",
                      wa_lsn_format(pg->addr, at));
    r->overwrite_due = true;
    r->overwrite_of = r->state == WAL_IN_RECORD ? r->record_lsn : 0;
    r->state = WAL_AT_RECORD;
    return WA_OK;
}

/* Does the page go on where the one before stopped? */
static wa_status
check_continuation(wa_walreader *r, const page *pg, wa_error *err)
{
    bool continued = (pg->info & WAL_PAGE_CONTINUED) != 0;
    uint32_t left = 0;
    wa_lsn content = pg->addr + wal_page_header_size(r, pg->addr);
    char at[WA_LSN_TEXT];

    if (r->first_page && r->skip_to > content) {
        r->state = WAL_SKIPPING;
        r->skip_left = r->skip_pad = (uint32_t)(r->skip_to - content);
        return WA_OK;
    }
    if (pg->info & WAL_PAGE_OVERWRITE)
        return void_record(r, pg, err);
    if (r->first_page && continued && pg->rem_len > 0 && pg->rem_len <= WAL_RECORD_MAX) {
        r->state = WAL_SKIPPING;
        r->skip_left = wal_align8(pg->rem_len);
        r->skip_pad = r->skip_left - pg->rem_len;
        return WA_OK;
    }
    if (r->state == WAL_IN_RECORD)
        left = r->tot_len - r->have;
    else if (r->state == WAL_SKIPPING)
        left = r->skip_left - r->skip_pad;
    if (continued != (left > 0) || pg->rem_len != left)
        return REJECT(r, pg,
                      "page at %s: continues a record with %" PRIu32 " bytes instead of %" PRIu32,
                      wa_lsn_format(pg->addr, at), pg->rem_len, left);
    return WA_OK;
}

wa_status
wal_check_page(wa_walreader *r, wa_lsn addr, const uint8_t *header, wa_error *err)
{
    page pg = {.addr = addr,
               .magic = wa_get_u16le(header),
               .info = wa_get_u16le(header + 2),
               .tli = wa_get_u32le(header + 4),
               .pageaddr = wa_get_u64le(header + 8),
               .rem_len = wa_get_u32le(header + 16)};
    uint32_t size = wal_page_header_size(r, addr);
    wal_state before = r->state;
    char at[WA_LSN_TEXT];

    r->page_addr = pg.pageaddr;
    if (wal_is_zero(header, size))
        return end_or_reject(r, &pg, "zeroes, page address", err);
    WA_TRY(check_magic(r, &pg, err));
    if (r->state != before)
        return WA_OK;
    if (pg.pageaddr != addr)
        return end_or_reject(r, &pg, "page address", err);
    if (pg.info & ~WAL_PAGE_FLAGS ||
        ((pg.info & WAL_PAGE_LONG) != 0) != (size == WAL_LONG_HEADER) ||
        !wal_is_zero(header + 20, 4))
        return REJECT(r, &pg, "page at %s: header flags are %04X", wa_lsn_format(addr, at),
                      pg.info);
    if (size == WAL_LONG_HEADER)
        WA_TRY(check_long(r, &pg, header, err));
    if (r->state == before)
        WA_TRY(check_tli(r, &pg, err));
    if (r->state == before)
        WA_TRY(check_continuation(r, &pg, err));
    r->magic = pg.magic;
    r->first_page = false;
    return WA_OK;
}
