/*
 * walagent/pg/walfacts.h - what a piece of WAL holds: commits, times, xids, restore points,
 * checkpoints.
 *
 * A record belongs to the piece in which it ends (only there all its bytes were seen). Times are
 * those of commits, aborts and their prepared forms; min and max, and the last one in WAL order,
 * since commit times are not monotonic. JSON members are documented in docs/formats.md; unknown
 * members are ignored on reading. Source: PostgreSQL src/include/access/xact.h,
 * catalog/pg_control.h, access/rmgrlist.h.
 */
#ifndef WALAGENT_PG_WALFACTS_H
#define WALAGENT_PG_WALFACTS_H

#include "walagent/base/error.h"
#include "walagent/base/mem.h"
#include "walagent/base/time.h"
#include "walagent/codec/json.h"
#include "walagent/pg/walreader.h"

/*
 * xids wrap around, so their order is PostgreSQL's: a precedes b when b is less than 2^31 ahead of
 * it (TransactionIdPrecedes, for normal xids). A range is what lies from min up to max, counted
 * with the wrap. One that would be 2^31 or wider has no order in it and is unknown: anything may be
 * in.
 */
bool wa_xid_precedes(uint32_t a, uint32_t b);
/* Widen the range (min 0: empty) by another one that isn't empty. False, and nothing changed: the
 * result is unknown. */
bool wa_xid_range_add(uint32_t *min, uint32_t *max, uint32_t other_min,
                      uint32_t other_max) WA_MUST_CHECK;
bool wa_xid_range_has(uint32_t min, uint32_t max, uint32_t xid);

typedef struct wa_restore_point {
    wa_lsn lsn, end; /* end as PostgreSQL has it, aligned to 8 */
    wa_time time;
    char name[64];
} wa_restore_point;

typedef struct wa_checkpoint_fact {
    wa_lsn lsn, redo;
    bool shutdown;
    wa_time time;
    wa_tli tli, prev_tli;
} wa_checkpoint_fact;

#define WA_FACTS_POINTS                                                                            \
    64 /* restore points and checkpoints kept per piece; more set `overflow`                       \
        */

typedef struct wa_wal_facts {
    wa_lsn first_record,
        last_record; /* starts of the first and last record that end in the piece; 0: none */
    wa_lsn last_end; /* aligned to 8 */
    uint64_t records, commits, aborts;
    wa_time min_time, max_time, last_time; /* WA_TIME_NONE: none */
    uint32_t min_xid, max_xid;             /* in the order of xids, which wraps around; 0: none */
    size_t restore_point_count, checkpoint_count;
    wa_restore_point restore_points[WA_FACTS_POINTS];
    wa_checkpoint_fact checkpoints[WA_FACTS_POINTS];
    bool overflow; /* not all is here: more points than are kept, an end whose xid is not known,
                      xids too far apart for a range */
    bool switched; /* ends in a switch */
} wa_wal_facts;

void wa_wal_facts_init(wa_wal_facts *f);
void wa_wal_facts_add(wa_wal_facts *f, const wa_record *record);
/* `later` follows f without a gap. */
void wa_wal_facts_merge(wa_wal_facts *f, const wa_wal_facts *later);
/* Owned by the caller; at most 12 KiB of text, so that the container's and the caller's members fit
 * beside it: points over the room become `overflow`. A restore point's name that is not UTF-8 is
 * escaped. */
json_t *wa_wal_facts_to_json(const wa_wal_facts *f);
wa_status wa_wal_facts_from_json(const json_t *json, const char *what, wa_wal_facts *ret,
                                 wa_error *err) WA_MUST_CHECK;

/* A transaction's end, decoded. False when the record is none. */
typedef struct wa_xact_end {
    bool commit; /* else abort */
    bool prepared;
    uint32_t xid; /* for prepared forms from the body; 0 when it lies behind what is kept of it
                     (thousands of subtransactions, relations or invalidations) */
    wa_time time;
    uint32_t dropped_count; /* relations that were dropped or truncated with it */
    struct {
        uint32_t spc, db, rel;
    } dropped[32]; /* the first ones */
} wa_xact_end;
bool wa_record_xact_end(const wa_record *record, wa_xact_end *ret);
/* The xids of a transaction end's subtransactions. Returns how many (at most max). */
size_t wa_record_subxacts(const wa_record *record, uint32_t *out, size_t max);
bool wa_record_restore_point(const wa_record *record, wa_restore_point *ret);
bool wa_record_checkpoint(const wa_record *record,
                          wa_checkpoint_fact *ret); /* shutdown and online */
bool wa_record_end_of_recovery(const wa_record *record, wa_tli *ret_tli, wa_tli *ret_prev,
                               wa_time *ret_time);
bool wa_record_is_switch(const wa_record *record);

#endif
