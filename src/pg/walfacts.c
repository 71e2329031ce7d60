/*
 * pg/walfacts.c - what a piece of WAL holds, collected record by record.
 *
 * Main data of the XLOG records that are read here, the same in majors 13 to 18:
 *   checkpoint        0 u64 redo, 8 u32 tli, 12 u32 previous tli, ..., 64 i64 Unix time; 88 bytes
 *   restore point     0 i64 time, 8 char name[64]
 *   end of recovery   0 i64 time, 8 u32 tli, 12 u32 previous tli
 */
#include "walreader_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/pg/walfacts.h"

#include <string.h>

#define XLOG_OP 0xf0u
#define XLOG_SHUTDOWN_CHECKPOINT 0x00u
#define XLOG_ONLINE_CHECKPOINT 0x10u
#define XLOG_RESTORE_POINT 0x70u
#define XLOG_END_OF_RECOVERY 0x90u
#define FIRST_NORMAL_XID 3u
#define XID_RANGE_MAX (UINT32_MAX / 2) /* from the first to the last */

/* The main data of an XLOG record of this kind, at least `len` bytes; NULL otherwise. */
static const uint8_t *
xlog_main(const wa_record *record, uint8_t op, uint32_t len)
{
    uint32_t have = 0;

    if (record->rmid != WAL_RM_XLOG || (record->info & XLOG_OP) != op)
        return NULL;
    const uint8_t *p = wa_record_main(record, &have);
    return have >= len ? p : NULL;
}

/* Where PostgreSQL says that a record ends. */
static wa_lsn
aligned_end(const wa_record *record)
{
    return (record->end + 7) & ~UINT64_C(7);
}

bool
wa_record_restore_point(const wa_record *record, wa_restore_point *ret)
{
    const uint8_t *p = xlog_main(record, XLOG_RESTORE_POINT, 72);

    if (p == NULL)
        return false;
    wa_restore_point point = {
        .lsn = record->lsn, .end = aligned_end(record), .time = (wa_time)wa_get_u64le(p)};
    memcpy(point.name, p + 8, sizeof point.name - 1);
    *ret = point;
    return true;
}

bool
wa_record_checkpoint(const wa_record *record, wa_checkpoint_fact *ret)
{
    const uint8_t *p = xlog_main(record, XLOG_ONLINE_CHECKPOINT, 72);
    bool shutdown = p == NULL;

    if (shutdown)
        p = xlog_main(record, XLOG_SHUTDOWN_CHECKPOINT, 72);
    if (p == NULL)
        return false;
    /* Seconds from a server's clock: multiplied without a check they might overflow. */
    int64_t seconds = (int64_t)wa_get_u64le(p + 64);
    bool sane = seconds > -(INT64_C(1) << 40) && seconds < INT64_C(1) << 40;
    *ret =
        (wa_checkpoint_fact){.lsn = record->lsn,
                             .redo = wa_get_u64le(p),
                             .shutdown = shutdown,
                             .time = sane ? wa_time_from_unix_us(seconds * 1000000) : WA_TIME_NONE,
                             .tli = wa_get_u32le(p + 8),
                             .prev_tli = wa_get_u32le(p + 12)};
    return true;
}

bool
wa_record_end_of_recovery(const wa_record *record, wa_tli *ret_tli, wa_tli *ret_prev,
                          wa_time *ret_time)
{
    const uint8_t *p = xlog_main(record, XLOG_END_OF_RECOVERY, 16);

    if (p == NULL)
        return false;
    *ret_time = (wa_time)wa_get_u64le(p);
    *ret_tli = wa_get_u32le(p + 8);
    *ret_prev = wa_get_u32le(p + 12);
    return true;
}

bool
wa_record_is_switch(const wa_record *record)
{
    return record->rmid == WAL_RM_XLOG && (record->info & XLOG_OP) == WAL_XLOG_SWITCH;
}

void
wa_wal_facts_init(wa_wal_facts *f)
{
    memset(f, 0, sizeof *f);
    f->min_time = f->max_time = f->last_time = WA_TIME_NONE;
}

static void
add_time(wa_wal_facts *f, wa_time time)
{
    if (time == WA_TIME_NONE)
        return;
    if (f->min_time == WA_TIME_NONE || time < f->min_time)
        f->min_time = time;
    if (f->max_time == WA_TIME_NONE || time > f->max_time)
        f->max_time = time;
}

bool
wa_xid_precedes(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

bool
wa_xid_range_has(uint32_t min, uint32_t max, uint32_t xid)
{
    return min != 0 && xid - min <= max - min;
}

/* Is [min, max] a range that has an order, and does it hold all of the other one? */
static bool
range_holds(uint32_t min, uint32_t max, uint32_t other_min, uint32_t other_max)
{
    return max - min <= XID_RANGE_MAX && other_min - min <= other_max - min &&
           other_max - min <= max - min;
}

bool
wa_xid_range_add(uint32_t *min, uint32_t *max, uint32_t other_min, uint32_t other_max)
{
    uint32_t low = other_min, high = other_max;
    if (*min != 0) {
        low = wa_xid_precedes(other_min, *min) ? other_min : *min;
        high = wa_xid_precedes(*max, other_max) ? other_max : *max;
        if (!range_holds(low, high, *min, *max))
            return false;
    }
    if (!range_holds(low, high, other_min, other_max))
        return false;
    *min = low;
    *max = high;
    return true;
}

static void
add_xid_range(wa_wal_facts *f, uint32_t min, uint32_t max)
{
    /* Of nearly every record: nothing changes. */
    if (f->min_xid != 0 && range_holds(f->min_xid, f->max_xid, min, max))
        return;
    if (min >= FIRST_NORMAL_XID && !wa_xid_range_add(&f->min_xid, &f->max_xid, min, max))
        f->overflow = true;
}

static void
add_restore_point(wa_wal_facts *f, const wa_restore_point *point)
{
    if (f->restore_point_count == WA_FACTS_POINTS)
        f->overflow = true;
    else
        f->restore_points[f->restore_point_count++] = *point;
}

static void
add_checkpoint(wa_wal_facts *f, const wa_checkpoint_fact *checkpoint)
{
    if (f->checkpoint_count == WA_FACTS_POINTS)
        f->overflow = true;
    else
        f->checkpoints[f->checkpoint_count++] = *checkpoint;
}

static void
add_xact(wa_wal_facts *f, const wa_record *record)
{
    wa_xact_end x;

    if (!wa_record_xact_end(record, &x))
        return;
    if (x.commit)
        f->commits++;
    else
        f->aborts++;
    add_time(f, x.time);
    f->last_time = x.time;
    add_xid_range(f, x.xid, x.xid);
    if (x.xid == 0) /* its record is longer than what is kept */
        f->overflow = true;
}

static void
add_xlog(wa_wal_facts *f, const wa_record *record)
{
    wa_restore_point point;
    wa_checkpoint_fact checkpoint;

    if (wa_record_restore_point(record, &point))
        add_restore_point(f, &point);
    else if (wa_record_checkpoint(record, &checkpoint))
        add_checkpoint(f, &checkpoint);
}

void
wa_wal_facts_add(wa_wal_facts *f, const wa_record *record)
{
    if (f->records++ == 0)
        f->first_record = record->lsn;
    f->last_record = record->lsn;
    f->last_end = aligned_end(record);
    f->switched = wa_record_is_switch(record);
    add_xid_range(f, record->xid, record->xid);
    if (record->rmid == WAL_RM_XACT)
        add_xact(f, record);
    else if (record->rmid == WAL_RM_XLOG)
        add_xlog(f, record);
}

void
wa_wal_facts_merge(wa_wal_facts *f, const wa_wal_facts *later)
{
    f->overflow = f->overflow || later->overflow;
    if (later->records == 0)
        return;
    if (f->records == 0)
        f->first_record = later->first_record;
    f->last_record = later->last_record;
    f->last_end = later->last_end;
    f->switched = later->switched;
    f->records += later->records;
    f->commits += later->commits;
    f->aborts += later->aborts;
    add_time(f, later->min_time);
    add_time(f, later->max_time);
    if (later->last_time != WA_TIME_NONE)
        f->last_time = later->last_time;
    add_xid_range(f, later->min_xid, later->max_xid);
    for (size_t i = 0; i < later->restore_point_count; i++)
        add_restore_point(f, &later->restore_points[i]);
    for (size_t i = 0; i < later->checkpoint_count; i++)
        add_checkpoint(f, &later->checkpoints[i]);
}
