/*
 * pg/walreader_internal.h - the WAL reader's state, shared by its files.
 *
 * States and what the next byte is:
 *   AT_RECORD   a record's first byte, or a page header in front of it   -> IN_RECORD, ENDED
 *   IN_RECORD   inside a record that was cut by a page or a portion      -> AT_RECORD, SWITCHED
 *   SKIPPING    the rest of a record that began before the start         -> AT_RECORD
 *   SWITCHED    a zero up to the segment's end                           -> AT_RECORD
 *   ENDED, UNPARSED, BROKEN   anything; stays so until the next start
 * A contradiction leads from any state to BROKEN, or to ENDED when lenient.
 */
#ifndef WALAGENT_PG_WALREADER_INTERNAL_H
#define WALAGENT_PG_WALREADER_INTERNAL_H

#include "walagent/pg/walreader.h"

#define WAL_RECORD_HEADER 24u
#define WAL_SHORT_HEADER 24u
#define WAL_LONG_HEADER 40u
#define WAL_RECORD_MAX 0x3fffffffu /* PostgreSQL can't allocate more */

#define WAL_PAGE_CONTINUED 0x01u
#define WAL_PAGE_LONG 0x02u
#define WAL_PAGE_REMOVABLE 0x04u
#define WAL_PAGE_OVERWRITE 0x08u
#define WAL_PAGE_FLAGS 0x0fu

#define WAL_RM_XLOG 0u
#define WAL_RM_XACT 1u
#define WAL_XLOG_SWITCH 0x40u
#define WAL_XLOG_OVERWRITE 0xd0u

typedef enum wal_state {
    WAL_AT_RECORD,
    WAL_IN_RECORD,
    WAL_SKIPPING,
    WAL_SWITCHED,
    WAL_ENDED,
    WAL_UNPARSED,
    WAL_BROKEN
} wal_state;

struct wa_walreader {
    uint64_t segment_size;
    uint64_t expected_system;
    wa_tli *tlis;
    size_t tli_count, tli_at; /* tlis[tli_at] was on the last page */
    bool lenient;

    wal_state state;
    wa_error failure; /* why BROKEN */
    wa_lsn fail_at;   /* ENDED, BROKEN: behind the bytes that did not fit */
    bool first_page;  /* no page since the start */
    wa_lsn skip_to;   /* on the first page, where the first record begins; 0: as the page says */

    wa_lsn pos;          /* behind the last byte looked at */
    wa_lsn end;          /* behind the last complete record */
    wa_lsn last_record;  /* its start */
    wa_lsn prev;         /* what the next record must link to */
    bool prev_known;     /* else anything before itself */
    bool overwrite_due;  /* the next record must be an overwrite-contrecord ... */
    wa_lsn overwrite_of; /* ... of the record here; 0: unknown */

    uint8_t page_header[WAL_LONG_HEADER]; /* collected when a portion cuts it */
    uint32_t page_have;
    uint16_t magic; /* 0: no page yet */
    wa_tli page_tli;
    wa_lsn page_addr; /* as the last page header had it */
    uint64_t system;

    uint32_t skip_left, skip_pad; /* SKIPPING: bytes to go, of which padding */

    wa_lsn record_lsn; /* IN_RECORD */
    uint16_t record_magic;
    uint32_t have; /* bytes of it so far, with the header, padding included */
    uint32_t tot_len;
    uint32_t crc;      /* of the body so far */
    bool body_checked; /* only the padding is missing */
    uint8_t header[WAL_RECORD_HEADER];
    uint8_t body[WA_RECORD_KEEP];
};

static inline uint32_t
wal_align8(uint32_t n)
{
    return (n + 7) & ~7u;
}

/* The bytes contradict: BROKEN and CORRUPT (or `status`), or ENDED and OK when lenient. */
wa_status wal_reject(wa_walreader *r, wa_lsn fail_at, wa_status status, wa_error *err,
                     const char *fmt, ...) WA_PRINTF(5, 6);
static inline uint32_t
wal_page_header_size(const wa_walreader *r, wa_lsn addr)
{
    return addr % r->segment_size == 0 ? WAL_LONG_HEADER : WAL_SHORT_HEADER;
}
/* A whole page header of the page at addr; sets the state that follows from it. */
wa_status wal_check_page(wa_walreader *r, wa_lsn addr, const uint8_t *header, wa_error *err);
bool wal_is_zero(const uint8_t *p, size_t len);

#endif
