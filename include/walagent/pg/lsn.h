/*
 * walagent/pg/lsn.h - log sequence numbers, segment numbers and the names in pg_wal.
 *
 * Segment numbers: 2^32/size segments per log id; a name is TLI, segno / n, segno % n in 8
 * upper-case hex digits each. Sizes are powers of two from 1 MiB to 1 GiB. Source: PostgreSQL
 * src/include/access/xlog_internal.h.
 */
#ifndef WALAGENT_PG_LSN_H
#define WALAGENT_PG_LSN_H

#include "walagent/base/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t wa_lsn; /* 0: none */
typedef uint32_t wa_tli;
typedef uint64_t wa_segno;

#define WA_LSN_TEXT 24
#define WA_SEGMENT_NAME 25
#define WA_WAL_PAGE 8192u

char *wa_lsn_format(wa_lsn lsn, char out[static WA_LSN_TEXT]); /* "16/B374D848" */
char *wa_lsn_hex(wa_lsn lsn,
                 char out[static WA_LSN_TEXT]); /* 16 upper-case hex digits, as in keys */
wa_status wa_lsn_parse(const char *text, wa_lsn *ret, wa_error *err) WA_MUST_CHECK; /* "X/X" */
bool wa_lsn_parse_hex(const char *hex16, wa_lsn *ret);

bool wa_segment_size_valid(uint64_t size);
static inline wa_segno
wa_segno_of(wa_lsn lsn, uint64_t segment_size)
{
    return lsn / segment_size;
}
static inline wa_lsn
wa_segment_start(wa_segno segno, uint64_t segment_size)
{
    return segno * segment_size;
}
char *wa_segment_name(wa_tli tli, wa_segno segno, uint64_t segment_size,
                      char out[static WA_SEGMENT_NAME]);
/* False unless exactly 24 upper-case hex digits that are possible with this segment size. */
bool wa_segment_parse(const char *name, uint64_t segment_size, wa_tli *ret_tli,
                      wa_segno *ret_segno);

typedef enum wa_wal_file_kind {
    WA_WAL_SEGMENT, /* 000000010000000000000003 */
    WA_WAL_PARTIAL, /* ....partial */
    WA_WAL_HISTORY, /* 00000002.history */
    WA_WAL_BACKUP,  /* SEGMENT.XXXXXXXX.backup */
    WA_WAL_OTHER
} wa_wal_file_kind;
wa_wal_file_kind wa_wal_file_kind_of(const char *name);

#endif
