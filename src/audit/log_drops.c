/*
 * log_drops.c - transactions that dropped or truncated something.
 *
 * A relation's file goes with the commit that names it. A database's files go at the record that
 * says so, before its transaction commits, and no abort brings them back:
 *   rmgr 4 (Database), info & 0xF0 = 20 (13 and 14: 10); main data: 0 u32 database, ...
 * Source: PostgreSQL src/include/commands/dbcommands_xlog.h.
 */
#include "log_internal.h"

#include "walagent/base/bytes.h"

#include <string.h>

#define RM_DATABASE 4u
#define DROPS_IN_PROGRESS 64

typedef struct database_drop {
    uint32_t xid, database;
    wa_lsn lsn;
} database_drop;

typedef struct collector {
    const wa_log_options *options;
    database_drop drops[DROPS_IN_PROGRESS]; /* the later one takes the oldest's place */
    size_t drop_count;                      /* that ever were put there */
    wa_log_xacts out;
} collector;

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
    for (size_t i = c->drop_count; i > 0 && c->drop_count - i < DROPS_IN_PROGRESS; i--) {
        const database_drop *d = &c->drops[(i - 1) % DROPS_IN_PROGRESS];
        if (d->xid == xid)
            return d;
    }
    return NULL;
}

static wa_status
collect(void *arg, const wa_branch *branch, const wa_record *record, wa_error *err)
{
    (void)err;
    collector *c = arg;
    wa_xact_end end;
    uint32_t database = dropped_database(record);
    if (database != 0)
        c->drops[c->drop_count++ % DROPS_IN_PROGRESS] =
            (database_drop){record->xid, database, record->lsn};
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
