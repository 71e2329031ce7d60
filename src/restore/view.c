/*
 * restore/view.c - the WAL of the archive along a lineage: pieces of segments, their facts, their
 * records.
 *
 * A piece is what of one segment is accepted on one branch. Its bytes come from the branch's own
 * object, from its tail, or, in the segment of a fork, from a descendant's: that begins with the
 * same bytes. For an object that is damaged its chunks stand in, or a mirror's object.
 */
#include "restore_internal.h"

#include "walagent/base/bytes.h"
#include "walagent/store/mirror.h"

#include <string.h>

#define PAGE_CONTINUATION 1u
#define PAGE_INFO 2
#define PAGE_REM_LEN 16
#define BACK_MAX 64u /* segments that one record may reach back */

wa_status
wa_view_load(wa_repo *repo, const wa_lineage *lineage, wa_lsn from, wa_view *ret, wa_error *err)
{
    wa_view v = {.repo = repo, .lineage = lineage};
    WA_TRY(wa_coverage_load(repo, lineage, from, &v.coverage, err));
    *ret = v;
    return WA_OK;
}

void
wa_view_done(wa_view *v)
{
    wa_coverage_done(&v->coverage);
    *v = (wa_view){0};
}

wa_lsn
wa_view_end_from(const wa_view *v, wa_lsn lsn)
{
    return wa_coverage_from(&v->coverage, lsn);
}

bool
wa_view_stretch(const wa_view *v, wa_lsn lsn, wa_lsn *ret_begin, wa_lsn *ret_end)
{
    const wa_coverage *c = &v->coverage;
    for (size_t first = 0; first < c->count;) {
        size_t last = first;
        while (last + 1 < c->count && c->runs[last + 1].begin <= c->runs[last].end)
            last++;
        if (lsn >= c->runs[first].begin && lsn <= c->runs[last].end) {
            *ret_begin = c->runs[first].begin;
            *ret_end = c->runs[last].end;
            return true;
        }
        first = last + 1;
    }
    return false;
}

static uint64_t
segment_size(const wa_view *v)
{
    return wa_repo_cluster(v->repo)->segment_size;
}

/* Segment `segno` of a run, cut to [from, to). */
static wa_piece
cut_piece(const wa_view *v, const wa_run *run, wa_segno segno, wa_lsn from, wa_lsn to)
{
    uint64_t size = segment_size(v);
    wa_lsn begin = wa_segment_start(segno, size), end = begin + size;
    begin = begin < run->begin ? run->begin : begin;
    begin = begin < from ? from : begin;
    end = end > run->end ? run->end : end;
    end = end > to ? to : end;
    return (wa_piece){run->branch, segno, begin, end,
                      run->tail && segno == wa_segno_of(run->end - 1, size)};
}

static wa_status
pieces_of_run(const wa_view *v, const wa_run *run, wa_lsn from, wa_lsn to, bool backwards,
              wa_piece_fn fn, void *arg, wa_error *err)
{
    uint64_t size = segment_size(v);
    wa_lsn begin = run->begin < from ? from : run->begin, end = run->end > to ? to : run->end;
    if (begin >= end)
        return WA_OK;
    wa_segno first = wa_segno_of(begin, size), last = wa_segno_of(end - 1, size);
    for (wa_segno i = 0; i <= last - first; i++) {
        wa_piece piece = cut_piece(v, run, backwards ? last - i : first + i, from, to);
        WA_TRY(fn(arg, &piece, err));
    }
    return WA_OK;
}

wa_status
wa_view_pieces(const wa_view *v, wa_lsn from, wa_lsn to, bool backwards, wa_piece_fn fn, void *arg,
               wa_error *err)
{
    const wa_coverage *c = &v->coverage;
    for (size_t i = 0; i < c->count; i++) {
        const wa_run *run = &c->runs[backwards ? c->count - 1 - i : i];
        wa_status status = pieces_of_run(v, run, from, to, backwards, fn, arg, err);
        if (status == WA_CANCELLED && err->status == WA_OK)
            return WA_OK;
        WA_TRY(status);
    }
    return WA_OK;
}

/* ---- facts and bytes, from wherever they are ---- */

typedef wa_status (*source_fn)(const wa_view *v, const wa_branch *branch, wa_segno segno, void *out,
                               wa_error *err);

typedef struct sources {
    const wa_view *v;
    const wa_piece *piece;
    source_fn whole, tail;
    void *out;
    wa_error damage; /* the first one; status OK: none */
} sources;

/* One branch's object, else its tail. NOT_FOUND: not there, or damaged, which is kept. */
static wa_status
from_branch(sources *s, const wa_branch *branch, wa_error *err)
{
    wa_status status = s->whole(s->v, branch, s->piece->segno, s->out, err);
    if (status == WA_NOT_FOUND) {
        wa_error_clear(err);
        status = s->tail(s->v, branch, s->piece->segno, s->out, err);
    }
    if (status == WA_CORRUPT && s->damage.status == WA_OK)
        s->damage = *err;
    if (wa_is_damage(status)) {
        wa_error_clear(err);
        return WA_NOT_FOUND;
    }
    return status;
}

static size_t
step_of(const wa_lineage *l, const wa_branch *branch)
{
    for (size_t i = 0; i < l->count; i++)
        if (wa_branch_eq(&l->steps[i].branch, branch))
            return i;
    return l->count;
}

/* From the branch itself and its descendants that leave within the segment: those the server
 * follows, the newest first, as it reads them, or (own_first) the other way round. What it doesn't
 * follow stands in for what is absent, not for what is damaged: it would meet the damage. */
static wa_status
from_sources(sources *s, bool own_first, wa_error *err)
{
    const wa_view *v = s->v;
    const wa_lineage *l = v->lineage;
    wa_segno segno = s->piece->segno;
    wa_lsn end = wa_segment_start(segno, segment_size(v)) + segment_size(v);
    size_t own = step_of(l, &s->piece->branch), behind = own;
    while (behind < l->count && (behind == own || l->steps[behind].begin < end))
        behind++;
    size_t followed = behind;
    while (v->follows != 0 && followed > own + 1 && l->steps[followed - 1].begin > v->follows)
        followed--;
    for (size_t i = own; i < behind; i++) {
        size_t step = i < followed && !own_first ? own + followed - 1 - i : i;
        if (i >= followed && s->damage.status != WA_OK)
            break;
        wa_status status = from_branch(s, &l->steps[step].branch, err);
        if (status != WA_NOT_FOUND)
            return status;
    }
    char name[WA_SEGMENT_NAME];
    if (s->damage.status != WA_OK) {
        *err = s->damage;
        return err->status;
    }
    return wa_error_set(err, WA_NOT_FOUND, "WAL segment \"%s\" has gone from the archive",
                        wa_segment_name(s->piece->branch.tli, segno, segment_size(v), name));
}

void
wa_view_reads_done(wa_view_reads *reads)
{
    wa_strv_done(&reads->mirrored);
}

static void
note_mirror(const wa_view *v, const wa_branch *branch, wa_segno segno, size_t i, wa_status status,
            const wa_error *err)
{
    char name[WA_SEGMENT_NAME];
    wa_member_status mirror;
    wa_view_reads *reads = v->reads;
    if (reads == NULL || wa_is_damage(status))
        return;
    wa_store_member_status(wa_repo_store(v->repo), i, &mirror);
    if (status != WA_OK) {
        snprintf(reads->away, sizeof reads->away, "%s", mirror.name);
        snprintf(reads->away_error, sizeof reads->away_error, "%.*s",
                 (int)sizeof reads->away_error - 1, err->message);
        return;
    }
    wa_segment_name(branch->tli, segno, segment_size(v), name);
    if (reads->mirrored.count == 0)
        memcpy(reads->mirror, mirror.name, sizeof reads->mirror);
    if (reads->mirrored.count < WA_MIRRORED_MAX && !wa_strv_contains(&reads->mirrored, name))
        wa_strv_add(&reads->mirrored, name);
}

/* What the main repository has damaged, from the first mirror that has it whole: archive-get gives
 * it to the server, too. */
static bool
from_mirrors(const wa_view *v, const wa_branch *branch, wa_segno segno, source_fn whole, void *out)
{
    wa_store *store = wa_repo_store(v->repo);
    for (size_t i = 1; i < wa_store_members(store); i++) {
        wa_error other = WA_ERROR_INIT, gone = WA_ERROR_INIT;
        WA_CLEANUP(wa_repo_freep) wa_repo *repo = wa_repo_member(v->repo, i);
        wa_view there = {.repo = repo};
        wa_status status = whole(&there, branch, segno, out, &other);
        if (status == WA_NOT_FOUND && wa_repo_still_there(repo, &gone) != WA_OK) {
            status = gone.status;
            other = gone;
        }
        note_mirror(v, branch, segno, i, status, &other);
        if (status != WA_OK)
            continue;
        wa_store_mirror_count_served(store, i);
        return true;
    }
    return false;
}

static wa_status
own_facts(const wa_view *v, const wa_branch *branch, wa_segno segno, void *out, wa_error *err)
{
    return wa_wal_get_facts(v->repo, branch, segno, out, NULL, err);
}

static wa_status
whole_facts(const wa_view *v, const wa_branch *branch, wa_segno segno, void *out, wa_error *err)
{
    wa_status status = own_facts(v, branch, segno, out, err);
    if (status != WA_CORRUPT || !from_mirrors(v, branch, segno, own_facts, out))
        return status;
    wa_error_clear(err);
    return WA_OK;
}

static wa_status
tail_facts(const wa_view *v, const wa_branch *branch, wa_segno segno, void *out, wa_error *err)
{
    WA_CLEANUP(wa_freep) void *bytes = wa_malloc(segment_size(v));
    wa_lsn end = 0;
    WA_TRY(wa_tail_assemble(v->repo, branch, segno, bytes, &end, out, err));
    ((wa_wal_facts *)out)->overflow = true; /* a chunk may have none: look at the records */
    return WA_OK;
}

wa_status
wa_view_facts(const wa_view *v, const wa_piece *piece, wa_wal_facts *ret, wa_error *err)
{
    sources s = {.v = v, .piece = piece, .whole = whole_facts, .tail = tail_facts, .out = ret};
    return from_sources(&s, true, err); /* a descendant's tail may not have all of it */
}

typedef struct filled {
    uint8_t *bytes;
    wa_lsn needed;
    wa_source source;
} filled;

static wa_status
filled_tail(const wa_view *v, const wa_branch *branch, wa_segno segno, void *out, wa_error *err)
{
    filled *f = out;
    wa_lsn end = 0;
    WA_TRY(wa_tail_assemble(v->repo, branch, segno, f->bytes, &end, NULL, err));
    if (end < f->needed) /* a descendant's may have more */
        return wa_error_set(err, WA_NOT_FOUND, "only a part of the segment is there");
    f->source = (wa_source){.branch = *branch, .segno = segno, .chunks = true};
    return WA_OK;
}

static wa_status
filled_own(const wa_view *v, const wa_branch *branch, wa_segno segno, void *out, wa_error *err)
{
    filled *f = out;
    wa_wal_info info = {0};
    WA_TRY(wa_wal_get(v->repo, branch, segno, NULL, f->bytes, NULL, &info, err));
    f->source = (wa_source){.branch = *branch, .segno = segno, .unchecked = !info.checked};
    return WA_OK;
}

/* Chunks stand in for an object that can't be read, or a mirror does, as for archive-get. */
static wa_status
filled_whole(const wa_view *v, const wa_branch *branch, wa_segno segno, void *out, wa_error *err)
{
    wa_error other = WA_ERROR_INIT;
    wa_status status = filled_own(v, branch, segno, out, err);
    if (status != WA_CORRUPT)
        return status;
    if (filled_tail(v, branch, segno, out, &other) != WA_OK &&
        !from_mirrors(v, branch, segno, filled_own, out))
        return status;
    wa_error_clear(err);
    return WA_OK;
}

wa_status
wa_view_bytes(const wa_view *v, const wa_piece *piece, uint8_t *bytes, wa_source *ret_source,
              wa_error *err)
{
    filled f = {.bytes = bytes, .needed = piece->end};
    sources s = {.v = v, .piece = piece, .whole = filled_whole, .tail = filled_tail, .out = &f};
    wa_status status = from_sources(&s, false, err);
    if (wa_is_damage(status) && v->reads != NULL)
        v->reads->lost = true;
    WA_TRY(status);
    if (ret_source != NULL)
        *ret_source = f.source;
    return WA_OK;
}

/* One of the segment's chunks was archived unchecked. */
static wa_status
has_unchecked_chunk(const wa_view *v, const wa_source *from, bool *ret, wa_error *err)
{
    WA_CLEANUP(wa_chunks_done) wa_chunks chunks = {0};
    WA_TRY(wa_tail_list(v->repo, &from->branch, from->segno, &chunks, err));
    WA_CLEANUP(wa_buf_done) wa_buf bytes = WA_BUF_INIT(segment_size(v));
    for (size_t i = 0; i < chunks.count && !*ret; i++) {
        wa_wal_info info = {0};
        wa_buf_reset(&bytes);
        WA_TRY(wa_tail_get(v->repo, &from->branch, from->segno, &chunks.items[i], &bytes, &info,
                           NULL, err));
        *ret = !info.checked;
    }
    return WA_OK;
}

wa_status
wa_view_is_unchecked(const wa_view *v, const wa_source *from, bool *ret, wa_error *err)
{
    bool unchecked = from->unchecked;
    wa_error here = WA_ERROR_INIT;
    wa_status status = from->chunks ? has_unchecked_chunk(v, from, &unchecked, &here) : WA_OK;
    if (status != WA_OK && !wa_is_damage(status)) {
        *err = here;
        return status;
    }
    *ret = status == WA_OK && unchecked;
    return WA_OK;
}

/* The piece that ends where this one's segment begins. False: not covered. */
static bool
piece_before(const wa_view *v, wa_segno segno, wa_piece *ret)
{
    const wa_coverage *c = &v->coverage;
    wa_lsn start = wa_segment_start(segno, segment_size(v));
    for (size_t i = 0; start > 0 && i < c->count; i++) {
        if (c->runs[i].begin > start - 1 || c->runs[i].end < start)
            continue;
        *ret = cut_piece(v, &c->runs[i], segno - 1, 0, start);
        return true;
    }
    return false;
}

static bool
is_continued(const uint8_t *segment)
{
    return (wa_get_u16le(segment + PAGE_INFO) & PAGE_CONTINUATION) != 0;
}

/* A record that began before covers the whole of it. */
static bool
is_inside_record(const uint8_t *segment, uint64_t size)
{
    return is_continued(segment) &&
           wa_get_u32le(segment + PAGE_REM_LEN) >= size - size / WA_WAL_PAGE * 24 - 16;
}

/* ---- records ---- */

typedef struct filter {
    const wa_piece *piece;
    wa_record_fn fn;
    void *arg;
} filter;

static wa_status
pass(void *arg, const wa_record *record, wa_error *err)
{
    const filter *f = arg;
    if (record->end <= f->piece->begin || record->end > f->piece->end)
        return WA_OK;
    return f->fn(f->arg, record, err);
}

/* Feed what lies before the segment, so that a record which began there is seen whole. */
static wa_status
feed_before(const wa_view *v, const wa_piece *piece, wa_walreader *r, wa_error *err)
{
    uint64_t size = segment_size(v);
    wa_piece back[BACK_MAX];
    size_t count = 0;
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(size);
    for (wa_segno segno = piece->segno; count < BACK_MAX; segno--) {
        if (!piece_before(v, segno, &back[count]))
            break;
        WA_TRY(wa_view_bytes(v, &back[count++], bytes, NULL, err));
        if (!is_inside_record(bytes, size))
            break;
    }
    for (size_t i = count; i > 0; i--) {
        wa_lsn start = wa_segment_start(back[i - 1].segno, size);
        wa_wal_end end = WA_WAL_MORE;
        if (i == count)
            wa_walreader_start(r, start, 0);
        if (i > 1 || count > 1)
            WA_TRY(wa_view_bytes(v, &back[i - 1], bytes, NULL, err));
        WA_TRY(wa_walreader_feed(r, bytes, size, NULL, NULL, &end, err));
        if (end != WA_WAL_MORE)
            break;
    }
    return WA_OK;
}

wa_status
wa_view_records(const wa_view *v, const wa_piece *piece, wa_record_fn fn, void *arg,
                wa_source *ret_source, wa_error *err)
{
    uint64_t size = segment_size(v);
    wa_lsn start = wa_segment_start(piece->segno, size);
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_malloc(size);
    WA_TRY(wa_view_bytes(v, piece, bytes, ret_source, err));
    WA_CLEANUP(wa_walreader_freep) wa_walreader *r = wa_walreader_new(size);
    wa_error before = WA_ERROR_INIT;
    wa_status led = is_continued(bytes) ? feed_before(v, piece, r, &before) : WA_OK;
    if (led == WA_NOT_FOUND) /* it was covered: gone since */
        led = before.status = WA_CORRUPT;
    if (led != WA_OK && led != WA_CORRUPT) {
        *err = before;
        return led;
    }
    if (led != WA_OK || wa_walreader_fed(r) != start) /* nothing before, or it leads not here */
        wa_walreader_start(r, start, 0);
    filter f = {piece, fn, arg};
    wa_wal_end end = WA_WAL_MORE;
    wa_status status =
        wa_walreader_feed(r, bytes, (size_t)(piece->end - start), pass, &f, &end, err);
    bool enough = status == WA_CANCELLED && err->status == WA_OK;
    if (led == WA_CORRUPT && (enough || status == WA_OK)) {
        *err = before;
        return led;
    }
    if (enough)
        return WA_OK;
    char name[WA_SEGMENT_NAME];
    wa_segment_name(piece->branch.tli, piece->segno, size, name);
    if (status != WA_OK)
        return wa_error_wrap(err, "WAL segment \"%s\"", name);
    if (end == WA_WAL_UNPARSED)
        return wa_error_set(err, WA_UNSUPPORTED,
                            "WAL segment \"%s\" is of a major version that can't be read", name);
    return WA_OK;
}
