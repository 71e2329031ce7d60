/*
 * restore/proof.c - does the WAL between the backup and the target lead there?
 *
 * That the segments are there is known from names. Whether a recovery can read them is not: an
 * object may be damaged, gone since the index was written, or hold records that end in zeroes. As
 * much as can be read at once is read, the way recovery does it: record after record. Of more WAL
 * only segments that were archived unchecked (each from the record that leads into it to the end of
 * the last one that begins in it), and those that a listing misses, are looked at, and the plan
 * says so.
 */
#include "restore_internal.h"

#include "walagent/repo/index.h"

#include <string.h>

#define READ_AT_ONCE (UINT64_C(256) << 20) /* about a second */
#define READ_MS 10000                      /* no segment is begun later, unless all is asked for */
#define SUSPECTS_MAX 64u                   /* segments that are looked at */
#define ACCEPTED_TOLD 8u                   /* segments that are named */
#define LEAD_MAX 64u                       /* segments that one record may reach back */

typedef struct proof {
    wa_planning *p;
    const wa_backup_info *backup;
    wa_lsn to;
    uint64_t most, read; /* bytes */
    wa_mono deadline;    /* 0: none */
    bool late;           /* it passed before all was read */
    bool begun;
    wa_walreader *reader;
    uint8_t *bytes;              /* a segment */
    wa_lsn last_lsn, last_end;   /* the last record that could be read; 0: none */
    wa_commit_point transaction; /* the last one that ended up to there */
    wa_source from, before;      /* of this piece and of the one that was read before it */
    bool unparsed;               /* records that nobody here can read */
    bool accept;                 /* go on where unchecked WAL can't be followed */
    size_t accepted;             /* segments that were read past, as asked */
    wa_lsn look_end;             /* only records that begin before it are looked at; 0: all */
    wa_lsn looked_to;            /* where the last piece that was read ends */
    size_t chosen;               /* unchecked segments, to be looked at */
    size_t skipped;              /* those that were not looked at */
    bool skipped_more;           /* and there may be more */
    bool known_only;             /* look at unchecked segments with known records only */
    bool broken;
    wa_piece at; /* where the records break off */
    wa_error why;
    bool unchecked; /* our reader can't follow what was archived unchecked: it may be wrong */
} proof;

static void
proof_done(proof *x)
{
    wa_walreader_free(x->reader);
    wa_freep(&x->bytes);
}

static wa_status
note_record(void *arg, const wa_record *record, wa_error *err)
{
    proof *x = arg;
    wa_xact_end end;
    (void)err;
    x->last_lsn = record->lsn;
    x->last_end = record->end;
    if (wa_record_xact_end(record, &end))
        x->transaction = (wa_commit_point){.known = true,
                                           .commit = end.commit,
                                           .lsn = record->lsn,
                                           .end = record->end,
                                           .xid = end.xid,
                                           .time = end.time};
    /* It began where it is looked at: what comes behind it didn't. */
    return x->look_end != 0 && record->end > x->look_end ? WA_CANCELLED : WA_OK;
}

static wa_status
break_off(proof *x, const wa_piece *piece, const wa_error *why)
{
    x->broken = true;
    x->at = *piece;
    x->why = *why;
    return WA_CANCELLED; /* enough */
}

/* Bytes that the server sent twice were archived though our reader could not follow them: it may
 * be wrong where the server is not. A record of the piece before may be the one. */
static wa_status
break_off_records(proof *x, const wa_piece *piece, const wa_error *why, wa_error *err)
{
    char name[WA_SEGMENT_NAME];
    uint64_t size = wa_repo_cluster(x->p->o->repo)->segment_size;
    WA_TRY(wa_view_is_unchecked(&x->p->view, &x->from, &x->unchecked, err));
    if (!x->unchecked)
        WA_TRY(wa_view_is_unchecked(&x->p->view, &x->before, &x->unchecked, err));
    if (!x->unchecked || !x->accept)
        return break_off(x, piece, why);
    if (++x->accepted <= ACCEPTED_TOLD)
        wa_plan_note(
            x->p,
            "WARNING: the records of WAL segment \"%s\" can't be followed (%.200s); it was "
            "archived unchecked and is accepted as asked: only the server tells whether it "
            "can read it",
            wa_segment_name(piece->branch.tli, piece->segno, size, name), why->message);
    x->unchecked = x->begun = false; /* on from the next one */
    return WA_OK;
}

static wa_status
feed_piece(proof *x, const wa_piece *piece, wa_error *err)
{
    uint64_t size = wa_repo_cluster(x->p->o->repo)->segment_size;
    wa_lsn start = wa_segment_start(piece->segno, size), from = piece->begin;
    wa_error here = WA_ERROR_INIT;
    wa_wal_end state = WA_WAL_MORE;
    if (!x->begun) { /* where a record begins, or a segment */
        wa_walreader_start_record(x->reader, from);
        from -= from % WA_WAL_PAGE;
        x->begun = true;
    }
    wa_status status =
        wa_walreader_feed(x->reader, x->bytes + (from - start), (size_t)(piece->end - from),
                          note_record, x, &state, &here);
    if (status == WA_CORRUPT || status == WA_CONFLICT)
        return break_off_records(x, piece, &here, err);
    if (status != WA_OK) {
        *err = here;
        return status;
    }
    if (state == WA_WAL_UNPARSED) {
        x->unparsed = true;
        return WA_CANCELLED;
    }
    /* At the very end of the archive it is the end of the WAL. */
    if (state == WA_WAL_END && piece->end < x->to) {
        char lsn[WA_LSN_TEXT];
        wa_error_set(&here, WA_CORRUPT, "its records end at %s, in the middle",
                     wa_lsn_format(wa_walreader_end(x->reader), lsn));
        return break_off_records(x, piece, &here, err);
    }
    return WA_OK;
}

static wa_mono
now(const wa_planning *p)
{
    return p->o->clock != NULL ? p->o->clock() : wa_mono_now();
}

/* A plan is for people and answered soon, however far the store is. */
static wa_mono
deadline_of(const wa_planning *p)
{
    return p->o->read_wal_max == UINT64_MAX ? 0 : now(p) + READ_MS;
}

static bool
is_late(proof *x)
{
    x->late = x->late || (x->deadline != 0 && now(x->p) >= x->deadline);
    return x->late;
}

static wa_status
prove_piece(void *arg, const wa_piece *piece, wa_error *err)
{
    proof *x = arg;
    wa_error here = WA_ERROR_INIT;
    WA_TRY(wa_cancel_check(x->p->o->cancel, err));
    if (x->read >= x->most || is_late(x))
        return WA_CANCELLED;
    x->read += piece->end - piece->begin;
    wa_status status = wa_view_bytes(&x->p->view, piece, x->bytes, &x->from, &here);
    if (wa_is_damage(status))
        return break_off(x, piece, &here);
    if (status != WA_OK) {
        *err = here;
        return status;
    }
    status = feed_piece(x, piece, err);
    x->before = x->from;
    x->looked_to = piece->end;
    return status;
}

static void
reader_open(proof *x)
{
    const wa_cluster *cluster = wa_repo_cluster(x->p->o->repo);
    x->reader = wa_walreader_new(cluster->segment_size);
    x->bytes = wa_malloc(cluster->segment_size);
    wa_walreader_expect_system(x->reader, cluster->system_identifier);
}

/* Read from the backup's start up to `to`, at most `most` bytes. */
static wa_status
prove(proof *x, wa_planning *p, const wa_backup_info *b, wa_lsn to, uint64_t most, bool accept,
      wa_error *err)
{
    proof_done(x);
    *x = (proof){
        .p = p, .backup = b, .to = to, .most = most, .accept = accept, .deadline = deadline_of(p)};
    reader_open(x);
    return wa_view_pieces(&p->view, b->start_lsn, to, false, prove_piece, x, err);
}

/* ---- what can be reached instead ---- */

/* The backup that ends first of those that begin at or behind `begin` and end at or before `end`,
 * whichever one was asked for. */
static const wa_backup_info *
first_backup(const wa_planning *p, wa_lsn begin, wa_lsn end)
{
    const wa_backup_info *first = NULL;
    for (size_t i = 0; i < p->backups.count; i++) {
        const wa_backup_info *b = p->backups.items[i];
        if (wa_plan_can_use(p, b) && b->start_lsn >= begin && b->end_lsn <= end &&
            (first == NULL || b->end_lsn < first->end_lsn))
            first = b;
    }
    return first;
}

static void
say_reachable(const proof *x, wa_buf *out)
{
    char lsn[WA_LSN_TEXT], time[WA_TIME_TEXT];
    const wa_planning *p = x->p;
    const wa_backup_info *behind = first_backup(p, x->at.end, UINT64_MAX);
    if (p->reads.away[0] != '\0') /* first: a hint has little room */
        wa_buf_printf(out, "Mirror \"%s\" may have it whole but could not be asked (%.100s). ",
                      p->reads.away, p->reads.away_error);
    if (x->why.status == WA_NOT_FOUND) {
        WA_CLEANUP(wa_freep) char *lacking = wa_plan_lacking_hint(p, &x->at.branch, x->at.segno);
        wa_buf_puts(out, lacking);
    }
    /* From an older backup more WAL is needed than was read. */
    if (x->last_lsn != 0 && x->backup->end_lsn <= x->last_end) {
        wa_buf_printf(out, "The nearest point before it: --to-lsn %s",
                      wa_lsn_format(x->last_lsn, lsn));
        if (x->transaction.known)
            wa_buf_printf(out, " (the last transaction that can be read ended at %s)",
                          wa_time_format(x->transaction.time, time));
        wa_buf_puts(out, ". ");
    }
    if (behind != NULL)
        wa_buf_printf(out, "The nearest behind it: the end of backup %s (%s). ", behind->label,
                      wa_time_format(behind->end_time, time));
    else
        wa_buf_puts(out, "What lies behind it can be reached only from a backup taken after it: "
                         "take one now. ");
    wa_buf_puts(out, "A server that still has the segment can archive it again once the damaged "
                     "object is moved away; \"walagent verify --wal\" shows all damage.");
    if (x->unchecked)
        wa_buf_puts(out, " It was archived unchecked: the server may be able to read it, and "
                         "--accept-unchecked-wal lets it try.");
}

static wa_status
refuse(const proof *x, wa_error *err)
{
    char name[WA_SEGMENT_NAME], branch[WA_BRANCH_TEXT];
    uint64_t size = wa_repo_cluster(x->p->o->repo)->segment_size;
    WA_CLEANUP(wa_buf_done) wa_buf hint = WA_BUF_INIT(WA_ERROR_HINT_SIZE * 4);
    say_reachable(x, &hint);
    wa_error_set(err, WA_UNREACHABLE,
                 "recovery from backup %s can't get through WAL segment \"%s\" (branch %s): %s",
                 x->backup->label, wa_segment_name(x->at.branch.tli, x->at.segno, size, name),
                 wa_branch_format(&x->at.branch, branch), x->why.message);
    return wa_error_hint(err, "%s", wa_buf_str(&hint));
}

static wa_status
note_last_record(void *arg, const wa_piece *piece, wa_error *err)
{
    proof *x = arg;
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    WA_TRY(wa_view_facts(&x->p->view, piece, facts, err));
    if (facts->records == 0)
        return WA_OK;
    if (facts->last_end <= piece->end) { /* else of another branch, behind the fork */
        x->last_lsn = facts->last_record;
        x->last_end = facts->last_end;
    }
    return WA_CANCELLED;
}

/* The last record and the last transaction before the damage, where what was read doesn't tell
 * them. They are told, not needed. */
static void
find_nearest(proof *x)
{
    const wa_view *v = &x->p->view;
    wa_lsn from = x->backup->start_lsn, to = x->at.begin;
    wa_error ignored = WA_ERROR_INIT;
    if (x->last_lsn == 0 &&
        wa_view_pieces(v, from, to, true, note_last_record, x, &ignored) != WA_OK)
        x->last_lsn = 0;
    if (!x->transaction.known &&
        wa_search_before(v, from, to, to, &x->transaction, &ignored) != WA_OK)
        x->transaction.known = false;
}

static wa_status
weigh(proof *x, wa_error *err)
{
    if (!x->broken)
        return WA_OK;
    find_nearest(x);
    wa_status status = refuse(x, err);
    if (!wa_plan_has_primary(x->p))
        return status;
    wa_plan_note(x->p, "WARNING: %.500s: the replica needs that WAL from its primary",
                 err->message);
    wa_error_clear(err);
    return WA_OK;
}

/* ---- too much to be read ---- */

typedef struct suspects {
    wa_segno segno[SUSPECTS_MAX];
    size_t count, most;
    bool more; /* than `most`: how many is not asked, since that takes requests */
    bool known_only;
} suspects;

static wa_visit
choose_unchecked(void *arg, wa_segno first, uint64_t count, const wa_wal_summary *sum, bool whole)
{
    suspects *s = arg;
    if (sum->checked || s->more || (s->known_only && sum->records == 0))
        return WA_VISIT_PASS;
    if (count > 1 || !whole) /* many without a record: of a major that nobody can read */
        return sum->records == 0 ? WA_VISIT_PASS : WA_VISIT_ENTER;
    s->more = s->count == s->most;
    if (!s->more)
        s->segno[s->count++] = first;
    return WA_VISIT_PASS;
}

static wa_status
find_unchecked(wa_planning *p, const wa_run *run, wa_segno first, wa_segno last, suspects *s,
               wa_error *err)
{
    const wa_index_visitor visitor = {.arg = s, .choose = choose_unchecked};
    return wa_index_visit(p->o->repo, &p->view.coverage, &run->branch, first, last, &visitor, err);
}

typedef struct lead {
    const proof *x;
    size_t count;
    wa_lsn begin;
} lead;

/* Backwards, to the piece in which a record ends: one that goes on behind it may begin there. */
static wa_status
find_lead(void *arg, const wa_piece *piece, wa_error *err)
{
    lead *l = arg;
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    l->begin = piece->begin;
    wa_status status = wa_view_facts(&l->x->p->view, piece, facts, err);
    if (wa_is_damage(status)) { /* reading it will tell */
        wa_error_clear(err);
        return WA_CANCELLED;
    }
    WA_TRY(status);
    return facts->records > 0 || ++l->count == LEAD_MAX ? WA_CANCELLED : WA_OK;
}

static wa_status
look_piece(void *arg, const wa_piece *piece, wa_error *err)
{
    proof *x = arg;
    if (piece->begin >= x->look_end && !(x->begun && wa_walreader_in_record(x->reader)))
        return WA_CANCELLED;
    return prove_piece(x, piece, err);
}

/* The records that end or begin in [begin, end), as recovery reads them. */
static wa_status
look_at(proof *x, wa_lsn begin, wa_lsn end, wa_error *err)
{
    lead l = {.x = x, .begin = begin};
    x->begun = false;
    x->before = (wa_source){.chunks = false};
    x->last_lsn = x->last_end = 0;
    x->transaction = (wa_commit_point){.known = false};
    x->look_end = end;
    WA_TRY(wa_view_pieces(&x->p->view, x->backup->start_lsn, begin, true, find_lead, &l, err));
    return wa_view_pieces(&x->p->view, l.begin, x->to, false, look_piece, x, err);
}

static size_t
end_of_neighbours(const suspects *s, size_t first)
{
    size_t last = first;
    while (last + 1 < s->count && s->segno[last + 1] == s->segno[last] + 1)
        last++;
    return last;
}

/* Segments of one run that were archived unchecked; neighbours together. */
static wa_status
look_at_run(proof *x, const wa_run *run, wa_lsn from, wa_lsn to, wa_error *err)
{
    uint64_t size = wa_repo_cluster(x->p->o->repo)->segment_size;
    wa_lsn begin = run->begin > from ? run->begin : from, end = run->end < to ? run->end : to;
    if (begin >= end)
        return WA_OK;
    wa_segno first = begin / size, behind = (end + size - 1) / size;
    suspects s = {.most = SUSPECTS_MAX - x->chosen, .known_only = x->known_only};
    WA_TRY(find_unchecked(x->p, run, first, behind - 1, &s, err));
    x->chosen += s.count;
    x->skipped += s.more;
    x->skipped_more = s.more;
    for (size_t i = 0; i < s.count && !x->broken && !x->unparsed; i++) {
        size_t first_one = i;
        i = end_of_neighbours(&s, i);
        wa_lsn start = wa_segment_start(s.segno[first_one], size);
        wa_lsn stop = wa_segment_start(s.segno[i] + 1, size);
        if (!is_late(x))
            WA_TRY(look_at(x, start < begin ? begin : start, stop > end ? end : stop, err));
        for (size_t k = first_one; k <= i && x->late; k++)
            x->skipped += wa_segment_start(s.segno[k], size) >= x->looked_to;
    }
    return WA_OK;
}

static wa_status
look_at_unchecked(proof *x, wa_error *err)
{
    const wa_coverage *c = &x->p->view.coverage;
    reader_open(x);
    x->most = UINT64_MAX;
    for (size_t i = 0; i < c->count && !x->broken && !x->unparsed && !x->skipped_more; i++)
        WA_TRY(look_at_run(x, &c->runs[i], x->backup->start_lsn, x->to, err));
    return WA_OK;
}

/* ---- */

static uint64_t
read_max(const wa_planning *p)
{
    return p->o->read_wal_max > 0 ? p->o->read_wal_max : READ_AT_ONCE;
}

static void
say_what_was_not_read(const proof *x, uint64_t bytes, bool all)
{
    char size[WA_SIZE_TEXT], read[WA_SIZE_TEXT];
    wa_planning *p = x->p;
    if (x->accepted > ACCEPTED_TOLD)
        wa_plan_note(p, "WARNING: the same is true of %zu more WAL segment%s",
                     x->accepted - ACCEPTED_TOLD, x->accepted - ACCEPTED_TOLD == 1 ? "" : "s");
    if (x->unparsed)
        wa_plan_note(p, "the WAL was not read beforehand: its records are of a major version that "
                        "can't be read");
    if (x->skipped > 0)
        wa_plan_note(p, "%s%zu more WAL segments that were archived unchecked were not looked at",
                     x->skipped_more ? "at least " : "", x->skipped);
    wa_format_size(bytes, size);
    if (!all)
        wa_plan_note(p, "these %s of WAL were not read beforehand: --check-wal does", size);
    else if (x->late)
        wa_plan_note(p,
                     "only %s of these %s of WAL were read beforehand, since it takes long: "
                     "--check-wal reads all",
                     wa_format_size(x->read, read), size);
}

/* What can only be a warning is no reason to wait. */
static wa_status
read_or_look(proof *x, wa_planning *p, uint64_t bytes, bool *ret_all, wa_error *err)
{
    *ret_all = bytes <= read_max(p) && (!wa_plan_has_primary(p) || p->o->read_wal_max > 0);
    if (*ret_all)
        return prove(x, p, x->backup, x->to, UINT64_MAX, x->accept, err);
    return wa_plan_has_primary(p) ? WA_OK : look_at_unchecked(x, err);
}

wa_status
wa_plan_prove(wa_planning *p, wa_error *err)
{
    wa_restore_plan *plan = p->plan;
    uint64_t bytes = plan->wal_to - plan->wal_from;
    bool all = false;
    p->view.follows = plan->target_lsn != 0 ? plan->target_lsn : plan->wal_to;
    WA_CLEANUP(proof_done)
    proof x = {.p = p,
               .backup = plan->backup,
               .to = plan->wal_to,
               .accept = p->o->accept_unchecked_wal,
               .deadline = deadline_of(p)};
    WA_TRY(read_or_look(&x, p, bytes, &all, err));
    plan->wal_read = all && !x.broken && !x.unparsed && x.accepted == 0 && !x.late;
    say_what_was_not_read(&x, bytes, all);
    return weigh(&x, err);
}

wa_status
wa_plan_prove_missing(wa_planning *p, const wa_run *run, const wa_segno *segno, size_t count,
                      wa_error *err)
{
    uint64_t size = wa_repo_cluster(p->o->repo)->segment_size;
    proof x = {.p = p, .backup = p->plan->backup, .to = p->plan->wal_to};
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    for (size_t i = 0; i < count && !p->plan->wal_read && !x.broken; i++) {
        wa_error here = WA_ERROR_INIT;
        wa_lsn start = wa_segment_start(segno[i], size);
        wa_piece piece = {run->branch, segno[i], start, start + size, false};
        wa_status status = wa_view_facts(&p->view, &piece, facts, &here);
        if (wa_is_damage(status))
            (void)break_off(&x, &piece, &here);
        else if (status != WA_OK)
            return wa_error_set(err, status, "%s", here.message);
    }
    return weigh(&x, err);
}

/* Where the search for the target may have met damage. Of much WAL the beginning is read too. */
static wa_status
prove_for_search(proof *x, wa_planning *p, wa_error *err)
{
    wa_lsn end = wa_view_end_from(&p->view, x->backup->start_lsn);
    if (end - x->backup->start_lsn > read_max(p)) {
        x->to = end;
        x->known_only = true; /* else what is torn behind the target passes for what was met */
        WA_TRY(look_at_unchecked(x, err));
        if (x->broken || x->accepted > 0)
            return WA_OK;
    }
    return prove(x, p, x->backup, end, read_max(p), x->accept, err);
}

wa_status
wa_plan_explain_damage(wa_planning *p, wa_error *err)
{
    wa_error ignored = WA_ERROR_INIT;
    wa_status status = err->status;
    const wa_backup_info *b = p->tried != NULL ? p->tried : first_backup(p, 0, UINT64_MAX);
    if (b == NULL || !wa_is_damage(status))
        return status;
    WA_CLEANUP(proof_done)
    proof x = {
        .p = p, .backup = b, .accept = p->o->accept_unchecked_wal, .deadline = deadline_of(p)};
    bool lost = p->reads.lost;   /* where the search met it */
    size_t noted = p->notes.len; /* what is accepted, the plan's own proof tells */
    wa_status proved = prove_for_search(&x, p, &ignored);
    wa_plan_forget_notes(p, noted);
    if (proved == WA_OK && x.accepted > 0 && !x.broken && !lost &&
        wa_plan_leave_to_server(p, err) == WA_OK)
        return WA_OK;
    if (proved == WA_OK && x.broken) {
        WA_CLEANUP(wa_buf_done) wa_buf hint = WA_BUF_INIT(WA_ERROR_HINT_SIZE * 4);
        find_nearest(&x);
        if (p->tried != NULL)
            return refuse(&x, err);
        say_reachable(&x, &hint); /* what was looked for may not be there at all */
        err->status = WA_CORRUPT;
        return wa_error_hint(err, "%s", wa_buf_str(&hint));
    }
    err->status = WA_CORRUPT;
    return wa_error_hint(err, "\"walagent verify --wal\" tells which objects are damaged; --to-lsn "
                              "with a place before them can be reached.");
}
