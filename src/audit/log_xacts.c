/*
 * log_xacts.c - lists of transactions, and those around a time.
 */
#include "log_internal.h"

#include <string.h>

#define SEEN_MAX 4096 /* transactions in progress whose relations are remembered */
#define SUBXACTS_MAX 1024

void
wa_log_xacts_done(wa_log_xacts *x)
{
    wa_freep(&x->items);
    wa_freep(&x->damage);
    *x = (wa_log_xacts){0};
}

void
wa_log_add_damage(wa_log_xacts *x, wa_lsn begin, wa_lsn end, const char *why)
{
    x->damage = wa_reallocarray(x->damage, x->damage_count + 1, sizeof *x->damage);
    wa_log_damage *d = &x->damage[x->damage_count++];
    *d = (wa_log_damage){.begin = begin, .end = end};
    snprintf(d->text, sizeof d->text, "%s", why);
}

static void
set_xact(wa_log_xact *x, const wa_branch *branch, const wa_record *record, const wa_xact_end *end)
{
    memset(x, 0, sizeof *x);
    x->end = *end;
    x->lsn = x->restore_lsn = record->lsn;
    x->end_lsn = record->end;
    x->branch = *branch;
}

wa_log_xact *
wa_log_add_xact(wa_log_xacts *x, const wa_branch *branch, const wa_record *record,
                const wa_xact_end *end)
{
    x->items = wa_reallocarray(x->items, x->count + 1, sizeof *x->items);
    wa_log_xact *one = &x->items[x->count++];
    set_xact(one, branch, record, end);
    return one;
}

/* Relations that a transaction in progress has touched. */
typedef struct touched {
    uint32_t xid;
    size_t count;
    struct {
        uint32_t spc, db, rel;
    } relations[WA_XACT_RELATIONS];
} touched;

typedef struct collector {
    touched *seen;      /* SEEN_MAX slots by xid: the later one of two takes the place */
    wa_log_xact *ring;  /* the last `each` before the first one at or after t */
    size_t ring_count;  /* that ever were put into it */
    uint32_t *subxacts; /* SUBXACTS_MAX */
    wa_time t;
    size_t each;
    wa_log_xacts later;
} collector;

static void
add_relation(touched *slot, uint32_t spc, uint32_t db, uint32_t rel)
{
    size_t kept = slot->count < WA_XACT_RELATIONS ? slot->count : WA_XACT_RELATIONS;
    for (size_t k = 0; k < kept; k++) {
        if (slot->relations[k].rel == rel && slot->relations[k].db == db &&
            slot->relations[k].spc == spc)
            return;
    }
    if (kept < WA_XACT_RELATIONS) {
        slot->relations[kept].spc = spc;
        slot->relations[kept].db = db;
        slot->relations[kept].rel = rel;
        slot->count = kept + 1;
    } else {
        slot->count = WA_XACT_RELATIONS + 1; /* more, it isn't known how many */
    }
}

static void
touch(collector *c, const wa_record *record)
{
    wa_block_ref blocks[33];
    if (record->xid == 0)
        return;
    touched *slot = &c->seen[record->xid % SEEN_MAX];
    if (slot->xid != record->xid)
        *slot = (touched){.xid = record->xid};
    size_t n = wa_record_blocks(record, blocks, WA_ARRAY_SIZE(blocks));
    for (size_t i = 0; i < n; i++)
        add_relation(slot, blocks[i].spc, blocks[i].db, blocks[i].rel);
}

/* What the transaction and its subtransactions touched. */
static void
set_relations(collector *c, const wa_record *record, wa_log_xact *x)
{
    touched all = {.xid = x->end.xid};
    size_t subxacts = wa_record_subxacts(record, c->subxacts, SUBXACTS_MAX);
    for (size_t i = 0; i <= subxacts; i++) {
        uint32_t xid = i == 0 ? x->end.xid : c->subxacts[i - 1];
        const touched *slot = &c->seen[xid % SEEN_MAX];
        if (xid == 0 || slot->xid != xid)
            continue;
        for (size_t k = 0; k < slot->count && k < WA_XACT_RELATIONS; k++)
            add_relation(&all, slot->relations[k].spc, slot->relations[k].db,
                         slot->relations[k].rel);
        if (slot->count > WA_XACT_RELATIONS)
            all.count = slot->count;
    }
    x->relation_count = all.count;
    memcpy(x->relations, all.relations, sizeof x->relations);
}

static wa_status
collect(void *arg, const wa_branch *branch, const wa_record *record, wa_error *err)
{
    (void)err;
    collector *c = arg;
    wa_xact_end end;
    touch(c, record);
    if (!wa_record_xact_end(record, &end))
        return WA_OK;
    wa_log_xact *x;
    if (c->later.count > 0 || end.time >= c->t) {
        x = wa_log_add_xact(&c->later, branch, record, &end);
    } else {
        x = &c->ring[c->ring_count++ % c->each];
        set_xact(x, branch, record, &end);
    }
    set_relations(c, record, x);
    return c->later.count == c->each ? WA_CANCELLED : WA_OK;
}

static void
on_damage(void *arg, wa_lsn begin, wa_lsn end, const char *why)
{
    collector *c = arg;
    wa_log_add_damage(&c->later, begin, end, why);
}

/* Far enough before `hit` that `each` transactions ended in between. One segment more, so that what
 * the first ones touched is seen. */
static wa_status
find_begin(const wa_log_view *v, wa_lsn hit, size_t each, wa_lsn *ret, wa_error *err)
{
    wa_lsn first = v->coverage.count > 0 ? v->coverage.runs[0].begin : 0;
    for (uint64_t back = 2 * v->segment_size;; back = back < UINT64_MAX / 4 ? back * 4 : back) {
        wa_lsn begin = hit > first && hit - first > back ? hit - back : first;
        WA_CLEANUP(wa_log_pieces_done) wa_log_pieces pieces = {0};
        uint64_t ends = 0;
        WA_TRY(wa_log_pieces_load(v, begin, hit, NULL, &pieces, err));
        size_t i = pieces.count;
        while (i > 0 && ends < each) {
            i--;
            ends +=
                pieces.items[i].end <= hit ? pieces.items[i].commits + pieces.items[i].aborts : 0;
        }
        if ((ends < each || i == 0) && begin > first)
            continue;
        *ret = pieces.count == 0 ? first : pieces.items[i > 0 ? i - 1 : 0].start;
        return WA_OK;
    }
}

static wa_status
collect_around(const wa_log_view *v, collector *c, wa_error *err)
{
    wa_lsn hit = 0, begin = 0;
    wa_status status = wa_log_find_time(v, c->t, &hit, err);
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        hit = wa_coverage_tip(&v->coverage);
    } else {
        WA_TRY(status);
    }
    WA_TRY(find_begin(v, hit, c->each, &begin, err));
    wa_walk walk = {.repo = v->options->repo,
                    .lineage = v->lineage,
                    .coverage = &v->coverage,
                    .progress = v->options->progress,
                    .cancel = v->options->cancel,
                    .on_record = collect,
                    .on_damage = on_damage,
                    .arg = c};
    return wa_walk_records(&walk, begin, UINT64_MAX, err);
}

/* Those before, oldest first, then the others. */
static void
join(const collector *c, wa_log_xacts *ret)
{
    size_t before = c->ring_count < c->each ? c->ring_count : c->each;
    ret->items = wa_reallocarray(NULL, before + c->later.count + 1, sizeof *ret->items);
    for (size_t i = 0; i < before; i++)
        ret->items[ret->count++] = c->ring[(c->ring_count - before + i) % c->each];
    for (size_t i = 0; i < c->later.count; i++)
        ret->items[ret->count++] = c->later.items[i];
}

wa_status
wa_log_around(const wa_log_options *options, wa_time t, size_t each, wa_log_xacts *ret,
              wa_error *err)
{
    WA_ASSERT(each > 0);
    WA_CLEANUP(wa_log_view_done) wa_log_view view = {0};
    WA_CLEANUP(wa_freep) touched *seen = wa_calloc(SEEN_MAX, sizeof *seen);
    WA_CLEANUP(wa_freep) wa_log_xact *ring = wa_calloc(each, sizeof *ring);
    WA_CLEANUP(wa_freep) uint32_t *subxacts = wa_calloc(SUBXACTS_MAX, sizeof *subxacts);
    collector c = {.seen = seen, .ring = ring, .subxacts = subxacts, .t = t, .each = each};
    WA_TRY(wa_log_view_load(&view, options, err));
    wa_status status = collect_around(&view, &c, err);
    if (status == WA_OK) {
        wa_log_xacts out = {.damage = c.later.damage, .damage_count = c.later.damage_count};
        c.later.damage = NULL;
        join(&c, &out);
        *ret = out;
    }
    wa_log_xacts_done(&c.later);
    return status;
}
