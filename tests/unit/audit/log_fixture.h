/*
 * tests/unit/audit/log_fixture.h - random histories of a cluster in a mem store, and what is in
 * them.
 *
 * A history is one builder's WAL through all its timelines: that is what the lineage accepts. Each
 * fork has a decoy, the same WAL up to the fork and other WAL behind it, as the server that was
 * left behind wrote it. The model is what one reader finds in the builder's bytes, without the
 * archive.
 */
#ifndef WA_TESTS_LOG_FIXTURE_H
#define WA_TESTS_LOG_FIXTURE_H

#include "walagent/audit/log.h"
#include "walagent/base/bytes.h"
#include "walagent/repo/branch.h"
#include "walagent/repo/index.h"
#include "walagent/repo/tail.h"
#include "walagent/store/drivers.h"

#include "wal_builder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SYSTEM_ID UINT64_C(7412345678901234567)
#define SEGMENT (1024u * 1024)
#define FORKS_MAX 3
#define SEGMENTS_MAX 128
#define OK(call) assert_ok_((call), &err, #call, __LINE__)

static inline void
assert_ok_(wa_status status, const wa_error *err, const char *call, int line)
{
    if (status != WA_OK)
        fail_msg("line %d: %s: %s: %s", line, call, wa_status_name(status), err->message);
}

static inline uint64_t
next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

typedef struct model_record {
    wa_lsn lsn, end;
    uint32_t xid;
    bool ends, is_switch, is_point, is_checkpoint;
    wa_xact_end xact;
    wa_restore_point point;
    wa_checkpoint_fact checkpoint;
    uint32_t rel; /* of its block; 0: none */
    uint32_t database;
    bool is_mark; /* of add_database_drop's row */
} model_record;

typedef struct history {
    wa_repo *repo;
    wa_store *store;
    uint64_t base, seed;
    wal_builder *wal; /* what is accepted */
    size_t forks;
    wa_lsn fork[FORKS_MAX];
    wa_branch branch[FORKS_MAX + 1];
    bool missing[SEGMENTS_MAX]; /* segments that were never stored */
    model_record *records;
    size_t record_count, record_capacity;
} history;

/* ---- WAL ---- */

typedef struct writer {
    wal_builder *b;
    uint64_t seed;
    uint32_t xid;
    wa_time time;
} writer;

static inline void
put_relation(uint8_t *p, uint32_t rel)
{
    wa_put_u32le(p, 1663);
    wa_put_u32le(p + 4, 5);
    wa_put_u32le(p + 8, rel);
}

static inline void
add_change(writer *w, uint32_t xid, uint32_t rel)
{
    uint8_t body[26] = {0};
    put_relation(body + 4, rel);
    body[20] = 255;
    body[21] = 4;
    wal_add_raw(w->b, 10, 0, xid, body, sizeof body);
}

/* A commit that drops `count` relations and has one subtransaction. */
static inline void
add_drop(writer *w, uint32_t xid, wa_time time, uint32_t subxact, uint32_t count)
{
    uint8_t data[24 + 12 * 40] = {0};
    wa_put_u64le(data, (uint64_t)time);
    wa_put_u32le(data + 8, 2 | 4);
    wa_put_u32le(data + 12, 1);
    wa_put_u32le(data + 16, subxact);
    wa_put_u32le(data + 20, count);
    for (uint32_t i = 0; i < count; i++)
        put_relation(data + 24 + 12 * i, 20000 + i);
    wal_add(w->b, 1, 0x80, xid, data, 24 + 12 * count);
}

/* A heap record on a row of a shared catalog. */
static inline void
add_shared(writer *w, uint8_t info, uint32_t xid, uint32_t block, uint16_t line)
{
    uint8_t body[30] = {0};
    wa_put_u32le(body + 4, 1664);
    wa_put_u32le(body + 12, 1262);
    wa_put_u32le(body + 16, block);
    body[20] = 255;
    body[21] = 8;
    wa_put_u16le(body + 22 + (info == 0x70 ? 0 : 4), line);
    wal_add_raw(w->b, 10, info, xid, body, sizeof body);
}

/* DROP DATABASE: of an old minor release, or with its row marked first. */
static inline void
add_database_drop(writer *w, uint32_t xid, uint32_t database)
{
    uint8_t data[16] = {0};
    wa_put_u32le(data, database);
    wa_put_u32le(data + 4, 1);
    wa_put_u32le(data + 8, 1663);
    if (database % 2 == 0) {
        add_shared(w, 0x70, 0, 7, 3); /* its frozen xid, long ago */
        add_shared(w, 0x70, 0, 7, 3);
        add_shared(w, 0x70, 0, 7, 4); /* another's */
    }
    add_shared(w, 0x10, xid, 7, database % 2 == 0 ? 3 : (uint16_t)database);
    wal_add(w->b, 4, 0x20, xid, data, 12);
}

static inline wa_time
next_time(writer *w)
{
    uint64_t dice = next_random(&w->seed);
    w->time += (wa_time)(dice % 60000000);
    if (dice % 41 == 0)
        w->time -= INT64_C(3600) * 1000000;
    if (dice % 53 == 0)
        w->time += INT64_C(5) * 3600 * 1000000;
    return w->time;
}

static inline uint32_t
noise_length(uint64_t dice)
{
    if (dice % 97 == 0)
        return 3 * SEGMENT / 2; /* more than a segment */
    if (dice % 11 == 0)
        return 200000;
    return 30 + (uint32_t)(dice % 6000);
}

static inline void
write_one(writer *w)
{
    uint64_t dice = next_random(&w->seed);
    uint32_t xid = w->xid + (uint32_t)(dice % 3), rel = 16384 + (uint32_t)(dice / 7 % 12);
    switch (dice / 64 % 16) {
    case 0:
        wal_add_abort(w->b, w->xid++, next_time(w));
        break;
    case 1:
        wal_add_commit_prepared(w->b, w->xid++, next_time(w));
        break;
    case 2:
        add_drop(w, w->xid + 1, next_time(w), w->xid, 1 + (uint32_t)(dice % 40));
        w->xid += 2;
        break;
    case 3:
        wal_add_restore_point(w->b, "a point", next_time(w));
        break;
    case 4:
        wal_add_checkpoint(w->b, dice % 2 == 0, wal_position(w->b), 1, 1, next_time(w));
        break;
    case 5:
        if (dice % 3 == 0)
            wal_add_switch(w->b);
        break;
    case 6:
        add_database_drop(w, w->xid, 30000 + (uint32_t)(dice % 9));
        wal_add_commit(w->b, w->xid++, next_time(w));
        break;
    case 7:
    case 8:
    case 9:
        wal_add_commit(w->b, w->xid++, next_time(w));
        break;
    case 10:
    case 11:
    case 12:
        add_change(w, xid, rel);
        break;
    default:
        wal_add_noise(w->b, 0, noise_length(dice));
    }
}

/* The lengths of the phases between forks, in records. */
static inline size_t
phase_length(uint64_t seed, size_t phase)
{
    return 40 + (seed >> (8 * phase)) % 160;
}

/* Phases 0..last, each on its own timeline. */
static inline writer
write_phases(uint64_t seed, size_t last, wa_lsn *forks)
{
    writer w = {.seed = seed | 1, .xid = 700, .time = INT64_C(800000000) * 1000000};
    w.b = wal_builder_new(&(wal_builder_options){.system_identifier = SYSTEM_ID});
    for (size_t phase = 0; phase <= last; phase++) {
        if (phase > 0) {
            forks[phase - 1] = wal_position(w.b);
            wal_set_tli(w.b, (wa_tli)phase + 1);
            wal_add_end_of_recovery(w.b, (wa_tli)phase + 1, (wa_tli)phase, w.time);
        }
        for (size_t i = phase_length(seed, phase); i > 0; i--)
            write_one(&w);
    }
    return w;
}

/* ---- the model ---- */

static inline wa_status
model_record_of(void *arg, const wa_record *record, wa_error *err)
{
    (void)err;
    history *h = arg;
    if (h->record_count == h->record_capacity) {
        h->record_capacity = h->record_capacity == 0 ? 256 : 2 * h->record_capacity;
        h->records = wa_reallocarray(h->records, h->record_capacity, sizeof *h->records);
    }
    model_record *m = &h->records[h->record_count++];
    memset(m, 0, sizeof *m);
    m->lsn = record->lsn;
    m->end = record->end;
    m->xid = record->xid;
    m->ends = wa_record_xact_end(record, &m->xact);
    m->is_switch = wa_record_is_switch(record);
    m->is_point = wa_record_restore_point(record, &m->point);
    m->is_checkpoint = wa_record_checkpoint(record, &m->checkpoint);
    wa_block_ref block;
    if (wa_record_blocks(record, &block, 1) == 1)
        m->rel = block.rel;
    m->is_mark = record->rmid == 10 && record->info == 0x70 && record->body[22] == 3;
    if (record->rmid == 4)
        m->database = wa_get_u32le(record->body + 2);
    return WA_OK;
}

/* Do all bytes of the record lie where something was stored? */
static inline bool
is_visible(const history *h, const model_record *m)
{
    for (wa_segno s = m->lsn / SEGMENT; s <= (m->end - 1) / SEGMENT; s++)
        if (h->missing[s])
            return false;
    return true;
}

/* ---- into the archive ---- */

/* Facts of all segments that a builder's WAL touches. */
typedef struct fact_list {
    wa_wal_facts of[SEGMENTS_MAX];
} fact_list;

static inline wa_status
add_to_facts(void *arg, const wa_record *record, wa_error *err)
{
    (void)err;
    fact_list *f = arg;
    wa_wal_facts_add(&f->of[(record->end - 1) / SEGMENT], record);
    return WA_OK;
}

static inline fact_list *
facts_of(const wal_builder *b)
{
    wa_error err = WA_ERROR_INIT;
    fact_list *f = wa_malloc(sizeof *f);
    for (size_t i = 0; i < SEGMENTS_MAX; i++)
        wa_wal_facts_init(&f->of[i]);
    wa_walreader *r = wa_walreader_new(SEGMENT);
    wa_walreader_start(r, SEGMENT, 0);
    OK(wa_walreader_feed(r, wal_bytes(b), wal_size(b), add_to_facts, f, NULL, &err));
    wa_walreader_free(r);
    return f;
}

static inline void
put_whole(history *h, const wa_branch *branch, wal_builder *b, fact_list *facts, wa_segno segno)
{
    wa_error err = WA_ERROR_INIT;
    wa_put_outcome outcome;
    wa_wal_facts *f = &facts->of[segno];
    uint64_t dice = next_random(&h->seed);
    if (h->missing[segno - 1])
        f->overflow = true; /* as archive-push says it when the record before is gone */
    OK(wa_wal_put(h->repo, branch, segno, wal_bytes(b) + (segno - 1) * SEGMENT, NULL, 1,
                  dice % 9 == 0 ? NULL : f, true, &outcome, &err));
}

static inline void
put_chunk(history *h, const wa_branch *branch, wal_builder *b, wa_lsn end)
{
    wa_error err = WA_ERROR_INIT;
    wa_lsn start = end - end % SEGMENT;
    OK(wa_tail_put(h->repo, branch, 1, start, start, wal_bytes(b) + (start - SEGMENT), end - start,
                   NULL, true, &err));
}

/* All of a segment, and no whole object: its agent stopped, or was lost, before it came to that. */
static inline void
put_in_chunks(history *h, const wa_branch *branch, wal_builder *b, wa_segno segno)
{
    wa_error err = WA_ERROR_INIT;
    wa_lsn start = segno * SEGMENT;
    const uint8_t *bytes = wal_bytes(b) + (start - SEGMENT);
    OK(wa_tail_put(h->repo, branch, 1, start, start, bytes, 7000, NULL, true, &err));
    OK(wa_tail_put(h->repo, branch, 1, start + 7000, start + 7000, bytes + 7000, SEGMENT - 7000,
                   NULL, true, &err));
}

/* What the server that was left behind at a fork has archived. */
static inline void
store_decoy(history *h, size_t fork)
{
    wa_lsn forks[FORKS_MAX], at = h->fork[fork];
    uint64_t dice = next_random(&h->seed);
    if (at % SEGMENT == 0 || dice % 3 == 0)
        return; /* nothing: only the child has that segment */
    if (dice % 3 == 1) {
        put_chunk(h, &h->branch[fork], h->wal, at);
        return;
    }
    writer w = write_phases(h->base, fork, forks);
    assert_true(wal_position(w.b) == at);
    wa_lsn stop = (at / SEGMENT + 1 + dice / 3 % 2) * SEGMENT;
    w.seed ^= UINT64_C(0x5555555555);
    while (wal_position(w.b) < stop)
        write_one(&w);
    fact_list *facts = facts_of(w.b);
    for (wa_segno s = at / SEGMENT; s < stop / SEGMENT; s++)
        put_whole(h, &h->branch[fork], w.b, facts, s);
    free(facts);
    wal_builder_free(w.b);
}

/* The accepted segments of one timeline: from the one that holds its fork to the one before the
 * next fork's, or to the unfinished one. */
static inline void
store_branch(history *h, size_t i, fact_list *facts)
{
    wa_error err = WA_ERROR_INIT;
    wa_lsn begin = i == 0 ? SEGMENT : h->fork[i - 1];
    wa_lsn end = i < h->forks ? h->fork[i] : wal_position(h->wal);
    wa_segno last = 0;
    for (wa_segno s = begin / SEGMENT; s < end / SEGMENT; s++) {
        if (h->missing[s])
            continue;
        if (next_random(&h->seed) % 12 == 0)
            put_in_chunks(h, &h->branch[i], h->wal, s);
        else
            put_whole(h, &h->branch[i], h->wal, facts, s);
        last = s;
    }
    if (i < h->forks)
        store_decoy(h, i);
    else if (end % SEGMENT != 0)
        put_chunk(h, &h->branch[i], h->wal, end);
    if (last > 0 && next_random(&h->seed) % 2 == 0)
        OK(wa_index_update(h->repo, &h->branch[i], last, &err));
}

static inline bool
is_near_a_fork(const history *h, wa_segno segno)
{
    for (size_t i = 0; i < h->forks; i++)
        if (segno == h->fork[i] / SEGMENT || segno + 1 == h->fork[i] / SEGMENT)
            return true;
    return false;
}

static inline void
choose_holes(history *h)
{
    wa_segno last = wal_position(h->wal) / SEGMENT;
    assert_true(last + 1 < SEGMENTS_MAX);
    for (size_t holes = next_random(&h->seed) % 3; holes > 0; holes--) {
        wa_segno at = 2 + next_random(&h->seed) % last;
        for (wa_segno s = at; s <= at + holes && s + 1 < last; s++)
            h->missing[s] = !is_near_a_fork(h, s);
    }
}

static inline void
store_lineage(history *h)
{
    wa_error err = WA_ERROR_INIT;
    char history_text[512] = "", lsn[WA_LSN_TEXT];
    wa_lineage *l = NULL;
    OK(wa_lineage_load(h->repo, &l, &err));
    h->branch[0] = wa_branch_of(SYSTEM_ID, 1, NULL, 0, NULL, 0);
    for (size_t i = 0; i < h->forks; i++) {
        size_t len = strlen(history_text);
        snprintf(history_text + len, sizeof history_text - len, "%zu\t%s\tno reason\n", i + 1,
                 wa_lsn_format(h->fork[i], lsn));
        h->branch[i + 1] =
            wa_branch_of(SYSTEM_ID, (wa_tli)i + 2, history_text, strlen(history_text), "record", 6);
        OK(wa_history_put(h->repo, &h->branch[i + 1], history_text, strlen(history_text), &err));
        wa_lineage_append(l, &h->branch[i + 1], h->fork[i]);
    }
    l->since = 1;
    OK(wa_lineage_store(h->repo, l, &err));
    wa_lineage_free(l);
}

static inline void
history_open(history *h)
{
    wa_error err = WA_ERROR_INIT;
    wa_cluster identity = {.system_identifier = SYSTEM_ID, .major = 15, .segment_size = SEGMENT};
    bool created = false;
    memset(h, 0, sizeof *h);
    h->store = wa_store_fault_new(wa_store_mem_new());
    OK(wa_repo_of_store(h->store, "main", 1, &h->repo, &err));
    OK(wa_repo_init(h->repo, &identity, false, &created, &err));
}

static inline void
history_model(history *h)
{
    wa_error err = WA_ERROR_INIT;
    wa_walreader *r = wa_walreader_new(SEGMENT);
    wa_walreader_start(r, SEGMENT, 0);
    OK(wa_walreader_feed(r, wal_bytes(h->wal), wal_size(h->wal), model_record_of, h, NULL, &err));
    assert_true(((wa_walreader_end(r) + 7) & ~UINT64_C(7)) == wal_position(h->wal));
    wa_walreader_free(r);
}

static inline void
history_new(history *h, uint64_t seed)
{
    history_open(h);
    h->base = h->seed = seed * UINT64_C(0x9E3779B97F4A7C15) | 1;
    h->forks = seed % (FORKS_MAX + 1);
    h->wal = write_phases(h->base, h->forks, h->fork).b;
    history_model(h);
    store_lineage(h);
    choose_holes(h);
    fact_list *facts = facts_of(h->wal);
    for (size_t i = 0; i <= h->forks; i++)
        store_branch(h, i, facts);
    free(facts);
}

static inline void
history_done(history *h)
{
    free(h->records);
    if (h->wal != NULL)
        wal_builder_free(h->wal);
    wa_repo_free(h->repo);
}

#endif
