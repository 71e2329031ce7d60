/*
 * log_drops.c - transactions that dropped or truncated something.
 *
 * A relation's file goes with the commit that names it. A database goes in steps before its
 * transaction commits, and no abort brings it back: its row in pg_database is marked invalid in
 * place (by minor releases since August 2023), the row is deleted, then its files are.
 *   rmgr 10 (Heap), info & 0x70 = 70: in-place update; main data: 0 u16 line pointer, ...
 *   rmgr 10 (Heap), info & 0x70 = 10: delete; main data: 0 u32 xmax, 4 u16 line pointer, ...
 *   rmgr 4 (Database), info & 0xF0 = 20 (13 and 14: 10): files; main data: 0 u32 database, ...
 * Source: PostgreSQL src/include/access/heapam_xlog.h, commands/dbcommands_xlog.h.
 */
#include "log_internal.h"

#include "walagent/base/bytes.h"

#include <string.h>

#define RM_DATABASE 4u
#define RM_HEAP 10u
#define SHARED_TABLESPACE 1664u
#define KEPT 64

/* A row of a shared catalog. */
typedef struct shared_row {
    uint32_t rel, block;
    uint16_t line;
} shared_row;

typedef struct mark { /* an in-place update */
    shared_row row;
    wa_lsn lsn;
} mark;

typedef struct removal { /* a marked row is deleted */
    uint32_t xid;
    wa_lsn marked;
} removal;

typedef struct database_drop {
    uint32_t xid, database;
    wa_lsn lsn; /* before it all is still there */
} database_drop;

/* The latest of each; a later one takes the oldest's place. Counts are of all that ever came. */
typedef struct collector {
    const wa_log_options *options;
    mark marks[KEPT];
    removal removals[KEPT];
    database_drop drops[KEPT];
    size_t mark_count, removal_count, drop_count;
    wa_log_xacts out;
} collector;

/* The row that a record of the heap is about, whose line pointer is at `at` in the main data. */
static bool
shared_row_of(const wa_record *record, unsigned op, size_t at, shared_row *ret)
{
    wa_block_ref block;
    uint32_t len = 0;
    if (record->rmid != RM_HEAP || (record->info & 0x70u) != op ||
        wa_record_blocks(record, &block, 1) != 1 || block.spc != SHARED_TABLESPACE)
        return false;
    const uint8_t *p = wa_record_main(record, &len);
    if (len < at + 2)
        return false;
    *ret = (shared_row){block.rel, block.block, wa_get_u16le(p + at)};
    return true;
}

static void
note_mark_or_removal(collector *c, const wa_record *record)
{
    shared_row row;
    if (shared_row_of(record, 0x70, 0, &row))
        c->marks[c->mark_count++ % KEPT] = (mark){row, record->lsn};
    if (!shared_row_of(record, 0x10, 4, &row))
        return;
    for (size_t i = c->mark_count; i > 0 && c->mark_count - i < KEPT; i--) {
        const mark *m = &c->marks[(i - 1) % KEPT];
        if (m->row.rel == row.rel && m->row.block == row.block && m->row.line == row.line) {
            c->removals[c->removal_count++ % KEPT] = (removal){record->xid, m->lsn};
            return;
        }
    }
}

static uint32_t
dropped_database(const wa_record *record)
{
    uint32_t len = 0;
    unsigned op = wa_wal_magic_major(record->magic) <= 14 ? 0x10u : 0x20u;
    if (record->rmid != RM_DATABASE || (record->info & 0xf0u) != op)
        return 0;
    const uint8_t *p = wa_record_main(record, &len);
    return len >= 4 ? wa_get_u32le(p) : 0;
}

static const database_drop *
find_drop(const collector *c, uint32_t xid)
{
    for (size_t i = c->drop_count; i > 0 && c->drop_count - i < KEPT; i--) {
        const database_drop *d = &c->drops[(i - 1) % KEPT];
        if (d->xid == xid)
            return d;
    }
    return NULL;
}

static void
note_database_drop(collector *c, const wa_record *record)
{
    uint32_t database = dropped_database(record);
    if (database == 0 || find_drop(c, record->xid) != NULL) /* 13: one record a tablespace */
        return;
    database_drop drop = {record->xid, database, record->lsn};
    for (size_t i = c->removal_count; i > 0 && c->removal_count - i < KEPT; i--) {
        const removal *r = &c->removals[(i - 1) % KEPT];
        if (r->xid == record->xid) {
            drop.lsn = r->marked;
            break;
        }
    }
    c->drops[c->drop_count++ % KEPT] = drop;
}

static wa_status
collect(void *arg, const wa_branch *branch, const wa_record *record, wa_error *err)
{
    (void)err;
    collector *c = arg;
    wa_xact_end end;
    note_mark_or_removal(c, record);
    note_database_drop(c, record);
    if (!wa_record_xact_end(record, &end) || !end.commit || !wa_log_is_within(c->options, end.time))
        return WA_OK;
    const database_drop *drop = find_drop(c, end.xid);
    if (end.dropped_count == 0 && drop == NULL)
        return WA_OK;
    wa_log_xact *x = wa_log_add_xact(&c->out, branch, record, &end);
    if (drop != NULL) {
        x->dropped_database = drop->database;
        x->restore_lsn = drop->lsn;
    }
    return WA_OK;
}

static void
on_damage(void *arg, wa_lsn begin, wa_lsn end, const char *why)
{
    collector *c = arg;
    wa_log_add_damage(&c->out, begin, end, why);
}

static bool
may_hold(const wa_log_options *o, const wa_log_piece *p)
{
    return wa_log_may_be_within(o, p->min_time, p->max_time);
}

/* From one piece before the first that may hold one to the last that may. False: none does. */
static wa_status
find_range(const wa_log_view *v, wa_lsn *ret_from, wa_lsn *ret_to, bool *ret_any, wa_error *err)
{
    const wa_log_options *o = v->options;
    WA_CLEANUP(wa_log_pieces_done) wa_log_pieces pieces = {0};
    wa_lsn first = 0;
    *ret_any = true;
    if (o->from == WA_TIME_NONE && o->to == WA_TIME_NONE)
        return WA_OK;
    if (o->from != WA_TIME_NONE) {
        wa_status status = wa_log_find_time(v, o->from, &first, err);
        *ret_any = status != WA_NOT_FOUND;
        if (status == WA_NOT_FOUND)
            wa_error_clear(err);
        else
            WA_TRY(status);
    }
    if (!*ret_any)
        return WA_OK;
    first -= first > v->segment_size ? v->segment_size : first;
    WA_TRY(wa_log_pieces_load(v, first, UINT64_MAX, NULL, &pieces, err));
    size_t low = 0, high = pieces.count;
    while (low < high && !may_hold(o, &pieces.items[low]))
        low++;
    while (high > low && !may_hold(o, &pieces.items[high - 1]))
        high--;
    *ret_any = low < high;
    if (*ret_any) {
        *ret_from = pieces.items[low > 0 ? low - 1 : 0].start;
        *ret_to = pieces.items[high - 1].end;
    }
    return WA_OK;
}

static void
announce(const wa_log_view *v, wa_lsn from, wa_lsn to)
{
    for (size_t i = 0; v->options->progress != NULL && i < v->coverage.count; i++) {
        wa_lsn begin = v->coverage.runs[i].begin, end = v->coverage.runs[i].end;
        begin = begin < from ? from : begin;
        end = end > to ? to : end;
        if (begin < end)
            atomic_fetch_add(&v->options->progress->total_bytes, end - begin);
    }
}

static wa_status
collect_drops(const wa_log_view *v, collector *c, wa_error *err)
{
    wa_lsn from = 0, to = UINT64_MAX;
    bool any = false;
    WA_TRY(find_range(v, &from, &to, &any, err));
    if (!any)
        return WA_OK;
    announce(v, from, to);
    wa_walk walk = {.repo = v->options->repo,
                    .lineage = v->lineage,
                    .coverage = &v->coverage,
                    .progress = v->options->progress,
                    .cancel = v->options->cancel,
                    .on_record = collect,
                    .on_damage = on_damage,
                    .arg = c};
    return wa_walk_records(&walk, from, to, err);
}

wa_status
wa_log_find_drops(const wa_log_options *options, wa_log_xacts *ret, wa_error *err)
{
    WA_CLEANUP(wa_log_view_done) wa_log_view view = {0};
    WA_TRY(wa_log_view_load(&view, options, err));
    collector c = {.options = options};
    wa_status status = collect_drops(&view, &c, err);
    if (status == WA_OK) {
        *ret = c.out;
        return WA_OK;
    }
    wa_log_xacts_done(&c.out);
    return status;
}
