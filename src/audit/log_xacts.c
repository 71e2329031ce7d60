/*
 * log_xacts.c - single transactions: around a time, and those that dropped or truncated something.
 */
#include "walagent/audit/log.h"

#include "walk_internal.h"

#include "walagent/repo/index.h"

#include <string.h>

#define SEEN_MAX 4096 /* transactions in progress whose relations are remembered */

void
wa_log_xacts_done(wa_log_xacts *x)
{
    wa_freep(&x->items);
    x->count = 0;
}

/* Relations that transactions in progress have touched: a small ring, the oldest is forgotten. */
typedef struct touched {
    uint32_t xid;
    size_t count;
    struct {
        uint32_t spc, db, rel;
    } relations[WA_XACT_RELATIONS];
} touched;

typedef struct collector {
    const wa_log_options *options;
    touched *seen; /* SEEN_MAX slots by xid */
    wa_time t;     /* around */
    size_t each, after;
    wa_log_xacts out;
} collector;

static void
touch(collector *c, const wa_record *record)
{
    wa_block_ref blocks[33];
    if (record->xid == 0)
        return;
    touched *slot = &c->seen[record->xid % SEEN_MAX];
    if (slot->xid != record->xid) {
        memset(slot, 0, sizeof *slot);
        slot->xid = record->xid;
    }
    size_t n = wa_record_blocks(record, blocks, WA_ARRAY_SIZE(blocks));
    for (size_t i = 0; i < n; i++) {
        bool known = blocks[i].fork != 0;
        for (size_t k = 0; k < slot->count && k < WA_XACT_RELATIONS && !known; k++)
            known = slot->relations[k].rel == blocks[i].rel &&
                    slot->relations[k].db == blocks[i].db &&
                    slot->relations[k].spc == blocks[i].spc;
        if (known)
            continue;
        if (slot->count < WA_XACT_RELATIONS) {
            slot->relations[slot->count].spc = blocks[i].spc;
            slot->relations[slot->count].db = blocks[i].db;
            slot->relations[slot->count].rel = blocks[i].rel;
        }
        slot->count++;
    }
}

static void
add_xact(collector *c, const wa_branch *branch, const wa_record *record, const wa_xact_end *end)
{
    c->out.items = wa_reallocarray(c->out.items, c->out.count + 1, sizeof *c->out.items);
    wa_log_xact *x = &c->out.items[c->out.count++];
    memset(x, 0, sizeof *x);
    x->end = *end;
    x->lsn = record->lsn;
    x->end_lsn = record->end;
    x->branch = *branch;
    const touched *slot = &c->seen[end->xid % SEEN_MAX];
    if (slot->xid != end->xid)
        return;
    x->relation_count = slot->count;
    memcpy(x->relations, slot->relations, sizeof x->relations);
}

/* Keeps the last `each` before the first transaction at or after t, then `each` more. */
static wa_status
collect_around(void *arg, const wa_branch *branch, const wa_record *record, wa_error *err)
{
    (void)err;
    collector *c = arg;
    wa_xact_end end;
    touch(c, record);
    if (!wa_record_xact_end(record, &end))
        return WA_OK;
    bool later = end.time >= c->t || c->after > 0;
    if (!later && c->out.count == c->each && c->each > 0) {
        memmove(&c->out.items[0], &c->out.items[1], (c->out.count - 1) * sizeof *c->out.items);
        c->out.count--;
    }
    add_xact(c, branch, record, &end);
    c->after += later;
    return c->after >= c->each ? WA_CANCELLED : WA_OK;
}

static wa_status
collect_drops(void *arg, const wa_branch *branch, const wa_record *record, wa_error *err)
{
    (void)err;
    collector *c = arg;
    const wa_log_options *o = c->options;
    wa_xact_end end;
    if (!wa_record_xact_end(record, &end) || !end.commit || end.dropped_count == 0)
        return WA_OK;
    if ((o->from == WA_TIME_NONE || end.time >= o->from) &&
        (o->to == WA_TIME_NONE || end.time <= o->to))
        add_xact(c, branch, record, &end);
    return WA_OK;
}

/* Where to begin reading: the segment before the one that holds the first transaction at or after
 * t. */
static wa_status
find_begin(wa_repo *repo, const wa_coverage *coverage, wa_time t, wa_lsn *ret, wa_error *err)
{
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    *ret = 0;
    for (size_t i = 0; i < coverage->count; i++) {
        const wa_run *run = &coverage->runs[i];
        wa_segno first = wa_segno_of(run->begin, size), last = wa_segno_of(run->end - 1, size),
                 found = 0;
        wa_status status =
            wa_index_find_time(repo, &run->branch, first, last, t, true, &found, err);
        if (status == WA_NOT_FOUND) {
            wa_error_clear(err);
            /* Perhaps in this run's tail, or in a later run: remember the last place before it. */
            *ret = wa_segment_start(last > first ? last - 1 : first, size);
            continue;
        }
        WA_TRY(status);
        *ret = wa_segment_start(found > first ? found - 1 : first, size);
        return WA_OK;
    }
    return WA_OK;
}

static wa_status
walk(const wa_log_options *options, collector *c, wa_time from, bool drops, wa_log_xacts *ret,
     wa_error *err)
{
    WA_CLEANUP(wa_lineage_freep) wa_lineage *lineage = NULL;
    WA_CLEANUP(wa_coverage_done) wa_coverage coverage = {0};
    WA_TRY(wa_lineage_load(options->repo, &lineage, err));
    WA_TRY(wa_coverage_load(options->repo, lineage, 0, &coverage, err));
    wa_lsn begin = 0;
    if (from != WA_TIME_NONE)
        WA_TRY(find_begin(options->repo, &coverage, from, &begin, err));
    if (options->progress != NULL)
        for (size_t i = 0; drops && i < coverage.count; i++)
            if (coverage.runs[i].end > begin)
                atomic_fetch_add(&options->progress->total_bytes,
                                 coverage.runs[i].end - (coverage.runs[i].begin > begin
                                                             ? coverage.runs[i].begin
                                                             : begin));
    wa_walk w = {.repo = options->repo,
                 .coverage = &coverage,
                 .progress = options->progress,
                 .cancel = options->cancel,
                 .on_record = drops ? collect_drops : collect_around,
                 .arg = c};
    WA_TRY(wa_walk_records(&w, begin, UINT64_MAX, err));
    *ret = c->out;
    memset(&c->out, 0, sizeof c->out);
    return WA_OK;
}

wa_status
wa_log_around(const wa_log_options *options, wa_time t, size_t each, wa_log_xacts *ret,
              wa_error *err)
{
    WA_CLEANUP(wa_freep) touched *seen = wa_calloc(SEEN_MAX, sizeof *seen);
    collector c = {.options = options, .seen = seen, .t = t, .each = each};
    wa_status status = walk(options, &c, t, false, ret, err);
    wa_log_xacts_done(&c.out);
    return status;
}

wa_status
wa_log_find_drops(const wa_log_options *options, wa_log_xacts *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) touched *seen = wa_calloc(SEEN_MAX, sizeof *seen);
    collector c = {.options = options, .seen = seen};
    wa_status status = walk(options, &c, options->from, true, ret, err);
    wa_log_xacts_done(&c.out);
    return status;
}
