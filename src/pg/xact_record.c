/*
 * pg/xact_record.c - a transaction's end in WAL: commits, aborts and their prepared forms.
 *
 * Main data, the same in majors 13 to 18 but for the dropped statistics (from 15):
 *   i64 time
 *   if info & 0x80: u32 xinfo, whose bits tell what follows, in this order:
 *      0 database          u32 database, u32 tablespace
 *      1 subtransactions   i32 count, u32 xid each
 *      2 relations         i32 count, u32 tablespace, database, relation each
 *      8 statistics        i32 count, 12 bytes each (18: 16)
 *      3 invalidations     i32 count, 16 bytes each (commits only)
 *      4 prepared          u32 xid
 *      7 its name          C string
 *      5 origin            u64 LSN, i64 time
 */
#include "walreader_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/pg/walfacts.h"

#include <string.h>

#define XACT_OP 0x70u
#define XACT_COMMIT 0x00u
#define XACT_ABORT 0x20u
#define XACT_COMMIT_PREPARED 0x30u
#define XACT_ABORT_PREPARED 0x40u
#define XACT_HAS_INFO 0x80u

#define XINFO_DATABASE (1u << 0)
#define XINFO_SUBXACTS (1u << 1)
#define XINFO_RELATIONS (1u << 2)
#define XINFO_INVALS (1u << 3)
#define XINFO_TWOPHASE (1u << 4)
#define XINFO_DROPPED_STATS (1u << 8)

/* The main data as far as it is kept. Once something is missing all that follows is. */
typedef struct cursor {
    const uint8_t *at;
    size_t left;
    bool cut;
} cursor;

static const uint8_t *
take(cursor *c, uint64_t n)
{
    const uint8_t *p = c->at;

    if (c->cut || n > c->left) {
        c->cut = true;
        return NULL;
    }
    c->at += n;
    c->left -= (size_t)n;
    return p;
}

static uint32_t
take_u32(cursor *c)
{
    const uint8_t *p = take(c, 4);

    return p != NULL ? wa_get_u32le(p) : 0;
}

static void
skip_array(cursor *c, uint32_t item_size)
{
    uint32_t count = take_u32(c);

    (void)take(c, (uint64_t)count * item_size);
}

static void
take_relations(cursor *c, wa_xact_end *x)
{
    x->dropped_count = take_u32(c);
    for (uint32_t i = 0; i < x->dropped_count; i++) {
        const uint8_t *p = take(c, 12);
        if (p == NULL)
            return;
        if (i < WA_ARRAY_SIZE(x->dropped)) {
            x->dropped[i].spc = wa_get_u32le(p);
            x->dropped[i].db = wa_get_u32le(p + 4);
            x->dropped[i].rel = wa_get_u32le(p + 8);
        }
    }
}

static void
take_info(cursor *c, uint16_t magic, wa_xact_end *x)
{
    uint32_t xinfo = take_u32(c);

    if (xinfo & XINFO_DATABASE)
        (void)take(c, 8);
    if (xinfo & XINFO_SUBXACTS)
        skip_array(c, 4);
    if (xinfo & XINFO_RELATIONS)
        take_relations(c, x);
    if (xinfo & XINFO_DROPPED_STATS)
        skip_array(c, wa_wal_magic_major(magic) >= 18 ? 16 : 12);
    if (xinfo & XINFO_INVALS)
        skip_array(c, 16);
    if (x->prepared && (xinfo & XINFO_TWOPHASE))
        x->xid = take_u32(c);
}

static bool
is_xact_end(const wa_record *record)
{
    uint8_t op = record->info & XACT_OP;

    return record->rmid == WAL_RM_XACT && (op == XACT_COMMIT || op == XACT_ABORT ||
                                           op == XACT_COMMIT_PREPARED || op == XACT_ABORT_PREPARED);
}

size_t
wa_record_subxacts(const wa_record *record, uint32_t *out, size_t max)
{
    uint32_t len = 0;
    size_t count = 0;

    if (!is_xact_end(record) || (record->info & XACT_HAS_INFO) == 0)
        return 0;
    const uint8_t *main_data = wa_record_main(record, &len);
    cursor c = {.at = main_data, .left = len};
    (void)take(&c, 8);
    uint32_t xinfo = take_u32(&c);
    if (xinfo & XINFO_DATABASE)
        (void)take(&c, 8);
    uint32_t told = xinfo & XINFO_SUBXACTS ? take_u32(&c) : 0;
    while (count < told && count < max && !c.cut) {
        uint32_t xid = take_u32(&c);
        if (!c.cut)
            out[count++] = xid;
    }
    return count;
}

bool
wa_record_xact_end(const wa_record *record, wa_xact_end *ret)
{
    uint8_t op = record->info & XACT_OP;
    uint32_t len = 0;

    if (!is_xact_end(record))
        return false;
    const uint8_t *main_data = wa_record_main(record, &len);
    cursor c = {.at = main_data, .left = len};
    const uint8_t *time = take(&c, 8);
    if (time == NULL)
        return false;

    bool prepared = op == XACT_COMMIT_PREPARED || op == XACT_ABORT_PREPARED;
    *ret = (wa_xact_end){.commit = op == XACT_COMMIT || op == XACT_COMMIT_PREPARED,
                         .prepared = prepared,
                         .xid = prepared ? 0 : record->xid,
                         .time = (wa_time)wa_get_u64le(time)};
    if (record->info & XACT_HAS_INFO)
        take_info(&c, record->magic, ret);
    return true;
}
