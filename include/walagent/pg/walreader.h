/*
 * walagent/pg/walreader.h - read and check WAL: pages, record headers, the prev chain, every CRC.
 *
 * A streaming parser for majors 13 to 18, fed with bytes in any portions, in order. It never holds
 * more than a page header, a record header and the first WA_RECORD_KEEP bytes of a record, and
 * allocates nothing per record.
 *
 * Guarantees:
 *   (1) a record is reported only after its header was plausible, its prev link, CRC and padding
 *       were right, and every page it lies on had the right magic, address, (on long headers)
 *       system identifier and segment size, a timeline that is allowed, and a continuation that
 *       matches.
 *   (2) what is reported doesn't depend on how the bytes were cut into portions.
 *   (3) wa_walreader_end() never passes a byte that was not checked, except the rest of a record
 *       that began before the start and the part of a record that its server gave up (overwrite
 *       contrecord): their CRCs can't be known.
 * States: AT_RECORD, IN_RECORD, SKIPPING, SWITCHED; ENDED, UNPARSED, BROKEN (walreader_internal.h).
 * Where a record should begin, zeroes and a page with another address (a recycled file's old
 * content) are the end; everywhere else, and everything else, is CORRUPT. What a server streams
 * has no such end: there WA_WAL_END is a contradiction too, and the caller says so.
 * Source: PostgreSQL src/include/access/{xlogrecord.h,xlog_internal.h}, xlogreader.c.
 */
#ifndef WALAGENT_PG_WALREADER_H
#define WALAGENT_PG_WALREADER_H

#include "walagent/base/error.h"
#include "walagent/base/mem.h"
#include "walagent/pg/lsn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WA_RECORD_KEEP 16384u

typedef struct wa_record {
    wa_lsn lsn; /* where its header begins */
    wa_lsn end; /* the first byte behind it, not aligned */
    wa_lsn prev;
    uint32_t tot_len;
    uint32_t xid;
    uint8_t rmid;
    uint8_t info;
    uint16_t magic;      /* of the page on which it begins: tells the major */
    const uint8_t *body; /* what follows the 24-byte header, at most WA_RECORD_KEEP bytes of it */
    uint32_t body_len;   /* bytes there are at body */
} wa_record;

typedef struct wa_block_ref {
    uint8_t id;
    uint8_t fork; /* 0 main, 1 fsm, 2 vm, 3 init */
    bool has_image;
    uint32_t spc, db, rel; /* RelFileLocator */
    uint32_t block;
} wa_block_ref;

typedef enum wa_wal_end {
    WA_WAL_MORE,    /* all bytes so far are fine; more may come */
    WA_WAL_END,     /* the valid WAL ends here: zeroes, or a recycled file's old content */
    WA_WAL_UNPARSED /* unknown page magic: a newer major */
} wa_wal_end;

/* Return anything but OK to stop: it is passed on by feed. */
typedef wa_status (*wa_record_fn)(void *arg, const wa_record *record, wa_error *err);

typedef struct wa_walreader wa_walreader;
wa_walreader *wa_walreader_new(uint64_t segment_size);
void wa_walreader_free(wa_walreader *r);
WA_DEFINE_CLEANUP(wa_walreader, wa_walreader_free)
/* Pages must carry this system identifier (0: any). */
void wa_walreader_expect_system(wa_walreader *r, uint64_t system_identifier);
/* Pages may carry these timelines, in this order, not decreasing; none: any. Copied. */
void wa_walreader_expect_timelines(wa_walreader *r, const wa_tli *tlis, size_t count);
/* Begin at lsn (a page's start). prev_lsn: where the record before the first one that begins at or
 * after lsn starts, when it is known (then that one must link to it), else 0. */
void wa_walreader_start(wa_walreader *r, wa_lsn lsn, wa_lsn prev_lsn);
/* Begin at a record's first byte, as recovery does: what is fed begins with its page, and what lies
 * before it there is not looked at, but for the page's header. */
void wa_walreader_start_record(wa_walreader *r, wa_lsn lsn);
/*
 * The bytes that follow the ones fed before. fn may be NULL. ret_end may be NULL.
 * CORRUPT: the bytes contradict; message says what and at which LSN ("record at 0/3000060: CRC is
 * ..."). CONFLICT: another system identifier or segment size than expected, or than before. The
 * reader stays BROKEN (and gives the same error) until it is started again, also when fn stopped
 * it; the record at which fn stopped doesn't count for wa_walreader_end(). After WA_WAL_END and
 * WA_WAL_UNPARSED further bytes are not looked at.
 */
wa_status wa_walreader_feed(wa_walreader *r, const void *data, size_t len, wa_record_fn fn,
                            void *arg, wa_wal_end *ret_end, wa_error *err) WA_MUST_CHECK;
/* Treat whatever is not a valid record as the end instead of CORRUPT (a local file that may be
 * recycled or torn at its tip). */
void wa_walreader_lenient(wa_walreader *r, bool lenient);
/* The end of the last complete record, aligned to 8 (after a switch the segment's end, as soon as
 * all its zeroes were fed); the start LSN when there was none. */
wa_lsn wa_walreader_end(const wa_walreader *r);
wa_lsn wa_walreader_last_record(const wa_walreader *r); /* its start; 0: none yet */
wa_lsn wa_walreader_fed(const wa_walreader *r);         /* the LSN behind the last byte fed */
bool wa_walreader_in_record(const wa_walreader *r);     /* a record has begun and is not complete */
wa_tli wa_walreader_page_tli(const wa_walreader *r);    /* of the last page header */
uint64_t wa_walreader_system(const wa_walreader *r);    /* of the last long header; 0: none seen */
/* Major version that a page magic belongs to; 0: unknown. */
int wa_wal_magic_major(uint16_t magic);

/* Block references of a record, as far as its kept body holds their headers. Returns how many (at
 * most max). */
size_t wa_record_blocks(const wa_record *record, wa_block_ref *out, size_t max);
/* The record's main data and how much of it is kept; NULL when none is. */
const uint8_t *wa_record_main(const wa_record *record, uint32_t *ret_len);
const char *wa_rmgr_name(uint8_t rmid); /* "Heap2", as pg_waldump; NULL for an extension's */

/*
 * Is the segment complete: is it whole from its first byte to its last, i.e. does the last record
 * that begins in it reach the segment's end, or was it ended by a switch? Also gives the end of
 * valid WAL in an incomplete one: padded with zeroes (even in the middle of a record), or a
 * recycled file. `data` is a whole segment and len its size. CORRUPT when it contradicts itself,
 * also when WAL goes on behind its end; CONFLICT when the page header has another segment size.
 */
typedef struct wa_segment_check {
    bool complete;
    bool parsed;                      /* false: unknown magic, bytes not looked at */
    wa_lsn valid_end;                 /* end of what was checked (segment's end when complete) */
    wa_lsn first_record, last_record; /* that begin in it, the last may go on in the next segment;
                                         0: none begins in it */
    uint64_t system_identifier;       /* 0: not read */
    wa_tli page_tli;                  /* of its first page, as it is written there */
    wa_lsn page_addr;                 /* likewise: must be `start` */
    uint16_t magic;                   /* likewise */
} wa_segment_check;
wa_status wa_segment_check_all(const void *data, size_t len, wa_lsn start, wa_record_fn fn,
                               void *arg, wa_segment_check *ret, wa_error *err) WA_MUST_CHECK;
/* What that says of a segment that came in pieces: the reader was started at its first byte (with
 * no record before it), was fed all of it, and answered WA_WAL_MORE to the last piece. page: its
 * first one. first_record: the first that was delivered; 0: none was. */
wa_segment_check wa_segment_check_fed(const wa_walreader *r, const void *page, wa_lsn first_record);

#endif
