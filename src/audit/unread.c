/*
 * unread.c - which of the WAL that is in the archive can't be followed: its records end early, in
 * zeroes, or one of them is damaged.
 *
 * Such a segment was archived unchecked (the server sent it twice as it is), so the index tells
 * where to look, and the chunks' public facts where there is no whole one. The first ones are read,
 * as a recovery reads them. Of more it is only told that they are there: nothing may be wrong with
 * them.
 */
#include "unread_internal.h"

#include "walagent/pg/walreader.h"
#include "walagent/repo/index.h"

#include <stdlib.h>
#include <string.h>

#define READ_MAX 16u /* segments; 256 MiB of the usual ones */

typedef struct finder {
    wa_repo *repo;
    const wa_backups *backups;
    const wa_run *run;
    uint64_t size;
    wa_segno first, last;  /* of the run */
    wa_lsn from;           /* nothing before it is needed */
    bool at_end;           /* no WAL follows the run: its records may end in zeroes */
    wa_segno *suspects;    /* of the run: as many as are read, and the next one */
    size_t count, to_read; /* to_read: of all runs */
    wa_walreader *reader;
    uint8_t *bytes;
    bool begun; /* the reader is where reading goes on */
    wa_lsn end; /* of what is looked at */
    wa_unread found;
} finder;

static void
finder_done(finder *f)
{
    free(f->suspects);
    wa_walreader_free(f->reader);
    wa_freep(&f->bytes);
    wa_unread_done(&f->found);
}

void
wa_unread_done(wa_unread *u)
{
    free(u->items);
    *u = (wa_unread){.count = 0};
}

/* ---- where to look ---- */

static wa_visit
choose(void *arg, wa_segno first, uint64_t count, const wa_wal_summary *sum, bool whole)
{
    finder *f = arg;
    if (sum->checked || f->count > f->to_read)
        return WA_VISIT_PASS;
    if (count > 1 || !whole) /* many without a record: of a major that nobody can read */
        return sum->records == 0 ? WA_VISIT_PASS : WA_VISIT_ENTER;
    f->suspects = wa_reallocarray(f->suspects, f->count + 1, sizeof *f->suspects);
    f->suspects[f->count++] = first;
    return WA_VISIT_PASS;
}

static int
compare_segnos(const void *a, const void *b)
{
    wa_segno x = *(const wa_segno *)a, y = *(const wa_segno *)b;
    return x < y ? -1 : x > y;
}

static bool
is_suspect(const finder *f, wa_segno segno)
{
    for (size_t i = 0; i < f->count; i++)
        if (f->suspects[i] == segno)
            return true;
    return false;
}

static void
add_unchecked_chunks(finder *f, const wa_coverage *c)
{
    wa_segno segno = 0;
    for (wa_segno from = f->first;
         wa_coverage_next_unchecked_chunks(c, &f->run->branch, from, &segno) && segno <= f->last;
         from = segno + 1) {
        if (is_suspect(f, segno))
            continue;
        f->suspects = wa_reallocarray(f->suspects, f->count + 1, sizeof *f->suspects);
        f->suspects[f->count++] = segno;
    }
    if (f->count > 1)
        qsort(f->suspects, f->count, sizeof *f->suspects, compare_segnos);
}

/* ---- reading ---- */

static wa_lsn
end_of(const finder *f, wa_segno segno)
{
    wa_lsn end = wa_segment_start(segno, f->size) + f->size;
    return end < f->run->end ? end : f->run->end;
}

/* Where reading can go on behind lsn: a recovery may begin there. */
static wa_lsn
next_start(const finder *f, wa_lsn lsn, wa_lsn end)
{
    for (size_t i = 0; i < f->backups->count; i++) {
        wa_lsn start = f->backups->items[i]->start_lsn;
        if (start > lsn && start < end)
            end = start;
    }
    return end;
}

static void
add_hole(finder *f, wa_lsn begin, wa_lsn end)
{
    wa_unread *u = &f->found;
    if (begin >= end)
        return;
    if (u->count > 0 && u->items[u->count - 1].end >= begin) {
        u->items[u->count - 1].end = end;
        return;
    }
    u->items = wa_reallocarray(u->items, u->count + 1, sizeof *u->items);
    u->items[u->count++] = (wa_hole){begin, end};
}

static wa_status
pass_record(void *arg, const wa_record *record, wa_error *err)
{
    const finder *f = arg;
    (void)err;
    return record->end > f->end ? WA_CANCELLED : WA_OK;
}

/* The records stop following one another. */
static void
break_off(finder *f, wa_segno segno, bool zeroes, wa_lsn *at)
{
    wa_lsn start = wa_segment_start(segno, f->size), good = wa_walreader_end(f->reader);
    *at = next_start(f, good < start ? start : good, end_of(f, segno));
    f->begun = false;
    if (!(zeroes && f->at_end && segno == f->last))
        add_hole(f, good, *at);
}

/* [*at, end of the segment), and sets *at to where to go on; 0: nothing more is looked at. */
static wa_status
feed_segment(finder *f, wa_segno segno, wa_lsn *at, wa_error *err)
{
    wa_lsn start = wa_segment_start(segno, f->size), end = end_of(f, segno), begin = *at;
    wa_wal_end state = WA_WAL_MORE;
    if (!f->begun) {
        wa_walreader_start_record(f->reader, begin);
        begin -= begin % WA_WAL_PAGE;
        f->begun = true;
    }
    wa_status status = wa_walreader_feed(f->reader, f->bytes + (begin - start), end - begin,
                                         pass_record, f, &state, err);
    bool enough = status == WA_CANCELLED && err->status == WA_OK;
    bool zeroes = status == WA_OK && state == WA_WAL_END;
    *at = enough || state == WA_WAL_UNPARSED ? 0 : end;
    if (enough)
        return WA_OK;
    if (status == WA_CORRUPT || status == WA_CONFLICT || zeroes) {
        wa_error_clear(err);
        break_off(f, segno, zeroes, at);
        return WA_OK;
    }
    return status;
}

static wa_status
load(finder *f, wa_segno segno, wa_lsn needed, wa_error *err)
{
    wa_lsn end = 0;
    wa_status status = wa_wal_get(f->repo, &f->run->branch, segno, NULL, f->bytes, NULL, NULL, err);
    if (status != WA_NOT_FOUND)
        return status;
    wa_error_clear(err);
    WA_TRY(wa_tail_assemble(f->repo, &f->run->branch, segno, f->bytes, &end, NULL, err));
    return end >= needed ? WA_OK
                         : wa_error_set(err, WA_NOT_FOUND, "only a part of the segment is there");
}

/* One segment from *at on. One that can't be had at all is another kind of damage. */
static wa_status
read_segment(finder *f, wa_segno segno, wa_lsn *at, wa_error *err)
{
    wa_lsn end = end_of(f, segno);
    wa_status status = load(f, segno, end, err);
    if (status == WA_NOT_FOUND || status == WA_CORRUPT || status == WA_UNSUPPORTED) {
        wa_error_clear(err);
        f->begun = false;
        *at = end;
        return WA_OK;
    }
    WA_TRY(status);
    while (*at != 0 && *at < end)
        WA_TRY(feed_segment(f, segno, at, err));
    return WA_OK;
}

/* Neighbours [first, last]: from what leads into them to the end of what begins in them. */
static wa_status
read_group(finder *f, wa_segno first, wa_segno last, wa_error *err)
{
    wa_segno segno = first > f->first ? first - 1 : first;
    wa_lsn at = wa_segment_start(segno, f->size);
    at = at < f->run->begin ? f->run->begin : at;
    at = at < f->from ? f->from : at;
    f->end = end_of(f, last);
    f->begun = false;
    if (f->bytes == NULL)
        f->bytes = wa_malloc(f->size);
    for (; at != 0 && segno <= f->last; segno++) {
        if (segno > last && !(f->begun && wa_walreader_in_record(f->reader)))
            break;
        WA_TRY(read_segment(f, segno, &at, err));
    }
    return WA_OK;
}

/* ---- a run ---- */

static wa_status
look_at_suspects(finder *f, wa_error *err)
{
    size_t count = f->count < f->to_read ? f->count : f->to_read;
    for (size_t i = 0; i < count; i++) {
        size_t first = i;
        while (i + 1 < count && f->suspects[i + 1] == f->suspects[i] + 1)
            i++;
        WA_TRY(read_group(f, f->suspects[first], f->suspects[i], err));
    }
    f->to_read -= count;
    if (f->count > count) {
        wa_lsn start = wa_segment_start(f->suspects[count], f->size);
        f->found.unread_from = start < f->from ? f->from : start;
    }
    return WA_OK;
}

static wa_status
look_at_run(finder *f, const wa_coverage *c, size_t i, wa_error *err)
{
    const wa_index_visitor visitor = {.arg = f, .choose = choose, .eager = true};
    f->run = &c->runs[i];
    f->first = wa_segno_of(f->run->begin, f->size);
    f->last = wa_segno_of(f->run->end - 1, f->size);
    f->at_end = i + 1 == c->count || c->runs[i + 1].begin > f->run->end;
    f->count = 0;
    if (f->last - f->first + !f->run->tail > 0) /* it has whole ones */
        WA_TRY(wa_index_visit(f->repo, c, &f->run->branch, f->first, f->last - f->run->tail,
                              &visitor, err));
    add_unchecked_chunks(f, c);
    return look_at_suspects(f, err);
}

wa_status
wa_unread_find(wa_repo *repo, const wa_coverage *c, const wa_backups *backups, wa_lsn from,
               wa_unread *ret, wa_error *err)
{
    const wa_cluster *cluster = wa_repo_cluster(repo);
    WA_CLEANUP(finder_done)
    finder f = {.repo = repo,
                .backups = backups,
                .size = cluster->segment_size,
                .from = from,
                .to_read = READ_MAX,
                .reader = wa_walreader_new(cluster->segment_size)};
    wa_walreader_expect_system(f.reader, cluster->system_identifier);
    for (size_t i = 0; i < c->count && f.found.unread_from == 0; i++)
        WA_TRY(look_at_run(&f, c, i, err));
    *ret = f.found;
    f.found = (wa_unread){.count = 0};
    return WA_OK;
}

/* ---- out of the runs ---- */

static void
cut_one(const wa_hole *hole, wa_coverage *c)
{
    for (size_t i = 0; i < c->count; i++) {
        wa_run *run = &c->runs[i];
        if (hole->begin >= run->end || hole->end <= run->begin)
            continue;
        wa_run behind = *run;
        behind.begin = hole->end;
        run->end = hole->begin > run->begin ? hole->begin : run->begin;
        run->tail = false;
        if (behind.begin >= behind.end)
            continue;
        c->runs = wa_reallocarray(c->runs, c->count + 1, sizeof *c->runs);
        memmove(&c->runs[i + 2], &c->runs[i + 1], (c->count - i - 1) * sizeof *c->runs);
        c->runs[++i] = behind;
        c->count++;
    }
}

void
wa_unread_cut(const wa_unread *u, wa_coverage *c)
{
    size_t kept = 0;
    for (size_t i = 0; i < u->count; i++)
        cut_one(&u->items[i], c);
    for (size_t i = 0; i < c->count; i++)
        if (c->runs[i].begin < c->runs[i].end)
            c->runs[kept++] = c->runs[i];
    c->count = kept;
}

bool
wa_unread_has(const wa_unread *u, const wa_hole *hole)
{
    for (size_t i = 0; i < u->count; i++)
        if (u->items[i].begin == hole->begin && u->items[i].end == hole->end)
            return true;
    return false;
}
