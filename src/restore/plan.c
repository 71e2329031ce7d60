/*
 * restore/plan.c - make a plan: the lineage that the target lies on, the backups that can be used,
 * what has to be fetched.
 */
#include "restore_internal.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define SUM_EXACTLY 4000u /* segments of a run whose sizes are listed, 1,000 a request */
#define SUM_SAMPLES 4u
#define SUM_SAMPLE 500u
#define NOTES_MAX (1u << 20)

void
wa_restore_plan_free(wa_restore_plan *plan)
{
    if (plan == NULL)
        return;
    for (size_t i = 0; i < plan->chain_count; i++)
        wa_backup_info_free(plan->chain[i]);
    wa_freep(&plan->chain);
    wa_lineage_free(plan->lineage);
    wa_freep(&plan->text);
    wa_freep(&plan);
}

static void
planning_done(wa_planning *p)
{
    wa_view_done(&p->view);
    wa_backups_done(&p->backups);
    wa_lineage_free(p->accepted);
    wa_lineage_free(p->lineage);
    wa_freep(&p->usable);
    wa_restore_plan_free(p->plan);
    wa_buf_done(&p->notes);
    wa_view_reads_done(&p->reads);
}

/* ---- which lineage ---- */

static wa_status
unknown_timeline(const wa_planning *p, const char *what, wa_error *err)
{
    const wa_lineage_step *head = wa_lineage_head(p->accepted);
    char branch[WA_BRANCH_TEXT];
    wa_error_set(err, WA_UNREACHABLE, "timeline \"%s\" is not in the archive", what);
    return wa_error_hint(err, "The accepted timeline is %s; \"walagent lineage\" shows all.",
                         head == NULL ? "none" : wa_branch_format(&head->branch, branch));
}

/* A timeline of which several branches exist and none is accepted must be named exactly. */
static wa_status
branch_of_number(const wa_planning *p, wa_tli tli, const char *what, wa_branch *ret, wa_error *err)
{
    const wa_branch *accepted = wa_lineage_branch_of_tli(p->accepted, tli);
    if (accepted != NULL) {
        *ret = *accepted;
        return WA_OK;
    }
    WA_CLEANUP(wa_freep) wa_branch *branches = NULL;
    size_t count = 0;
    WA_TRY(wa_branches_of(p->o->repo, tli, &branches, &count, err));
    if (count == 0)
        return unknown_timeline(p, what, err);
    if (count > 1) {
        char a[WA_BRANCH_TEXT], b[WA_BRANCH_TEXT];
        wa_error_set(err, WA_INVALID, "timeline %u exists %zu times in the archive", tli, count);
        return wa_error_hint(err, "Name the branch: --timeline %s or --timeline %s.",
                             wa_branch_format(&branches[0], a), wa_branch_format(&branches[1], b));
    }
    *ret = branches[0];
    return WA_OK;
}

static wa_status
branch_of_text(const wa_planning *p, wa_branch *ret, wa_error *err)
{
    const char *text = p->o->timeline;
    uint64_t number = 0;
    wa_error ignored = WA_ERROR_INIT;
    if (wa_branch_parse(text, ret))
        return WA_OK;
    if (wa_parse_u64(text, &number, &ignored) != WA_OK || number == 0 || number > UINT32_MAX) {
        wa_error_set(err, WA_INVALID, "\"%s\" is no timeline", text);
        return wa_error_hint(err, "Give a number, \"latest\", \"current\", or a branch as "
                                  "\"walagent lineage\" shows it.");
    }
    return branch_of_number(p, (wa_tli)number, text, ret, err);
}

/* "current": the backup's own timeline; without --backup the newest backup's. */
static wa_status
branch_of_backup(const wa_planning *p, wa_branch *ret, wa_error *err)
{
    for (size_t i = p->backups.count; i > 0; i--) {
        const wa_backup_info *b = p->backups.items[i - 1];
        if (p->o->backup_label != NULL && strcmp(b->label, p->o->backup_label) != 0)
            continue;
        *ret = b->end_branch;
        return WA_OK;
    }
    return wa_error_set(err, WA_UNREACHABLE, "there is no backup whose timeline could be followed");
}

wa_status
wa_plan_lineage(wa_planning *p, wa_error *err)
{
    const char *timeline = p->o->timeline;
    WA_TRY(wa_lineage_load(p->o->repo, &p->accepted, err));
    if (wa_str_empty(timeline) || strcmp(timeline, "latest") == 0) {
        p->lineage = wa_lineage_copy(p->accepted);
        return WA_OK;
    }
    wa_branch branch = {0};
    if (strcmp(timeline, "current") == 0)
        WA_TRY(branch_of_backup(p, &branch, err));
    else
        WA_TRY(branch_of_text(p, &branch, err));
    wa_status status = wa_lineage_to_branch(p->o->repo, p->accepted, &branch, &p->lineage, err);
    return status == WA_NOT_FOUND ? unknown_timeline(p, timeline, err) : status;
}

/* ---- which backups ---- */

static const wa_backup_info *
find_backup(const wa_planning *p, const char *label)
{
    for (size_t i = 0; i < p->backups.count; i++)
        if (strcmp(p->backups.items[i]->label, label) == 0)
            return p->backups.items[i];
    return NULL;
}

/* The byte at lsn is accepted on this branch, lsn being an end or a start of a backup. */
static bool
lies_on(const wa_lineage *l, const wa_branch *branch, wa_lsn lsn)
{
    if (!wa_lineage_has(l, branch))
        return false;
    wa_lsn end = wa_lineage_end_of(l, branch);
    return end == 0 || lsn <= end;
}

static bool
chain_is_complete(const wa_planning *p, const wa_backup_info *b)
{
    for (size_t depth = 0; b != NULL && depth <= p->backups.count; depth++) {
        if (!b->incremental)
            return true;
        b = find_backup(p, b->parent);
    }
    return false;
}

bool
wa_plan_can_use(const wa_planning *p, const wa_backup_info *b)
{
    const wa_cluster *c = wa_repo_cluster(p->o->repo);
    return b->system_identifier == c->system_identifier &&
           lies_on(p->lineage, &b->branch, b->start_lsn) &&
           lies_on(p->lineage, &b->end_branch, b->end_lsn) && chain_is_complete(p, b) &&
           wa_view_end_from(&p->view, b->start_lsn) >= b->end_lsn;
}

static bool
is_asked_for(const wa_planning *p, const wa_backup_info *b)
{
    return p->o->backup_label == NULL || strcmp(b->label, p->o->backup_label) == 0;
}

static wa_status
check_label(const wa_planning *p, wa_error *err)
{
    const char *label = p->o->backup_label;
    if (label == NULL || find_backup(p, label) != NULL)
        return WA_OK;
    for (size_t i = 0; i < p->backups.damaged.count; i++)
        if (wa_str_starts(p->backups.damaged.items[i], label))
            return wa_error_set(err, WA_CORRUPT, "backup %s", p->backups.damaged.items[i]);
    wa_error_set(err, WA_UNREACHABLE, "the archive has no backup \"%s\"", label);
    return wa_error_hint(err, "\"walagent list\" shows the backups that there are.");
}

/* Of the newest backup that was asked for and lacks WAL of its own: where there is some. */
static char *
lacking_of_backups(const wa_planning *p)
{
    for (size_t i = p->backups.count; i > 0; i--) {
        const wa_backup_info *b = p->backups.items[i - 1];
        wa_lsn end = wa_view_end_from(&p->view, b->start_lsn);
        if (is_asked_for(p, b) && lies_on(p->lineage, &b->branch, b->start_lsn) && end < b->end_lsn)
            return wa_plan_lacking_hint_at(p, end);
    }
    return wa_strdup("");
}

wa_status
wa_plan_usable(wa_planning *p, wa_error *err)
{
    wa_lsn from = UINT64_MAX;
    WA_TRY(check_label(p, err));
    for (size_t i = 0; i < p->backups.count; i++)
        if (p->backups.items[i]->start_lsn < from)
            from = p->backups.items[i]->start_lsn;
    if (from == UINT64_MAX) {
        wa_error_set(err, WA_UNREACHABLE, "the archive has no backup");
        return wa_error_hint(err, "Take one with \"walagent backup\".");
    }
    WA_TRY(wa_view_load(p->o->repo, p->lineage, from, &p->view, err));
    p->view.reads = &p->reads;
    p->usable = wa_calloc(p->backups.count, sizeof *p->usable);
    size_t count = 0;
    for (size_t i = 0; i < p->backups.count; i++)
        count += p->usable[i] =
            is_asked_for(p, p->backups.items[i]) && wa_plan_can_use(p, p->backups.items[i]);
    if (count > 0)
        return WA_OK;
    WA_CLEANUP(wa_freep) char *mirror = lacking_of_backups(p);
    if (p->o->backup_label != NULL)
        wa_error_set(err, WA_UNREACHABLE,
                     "backup \"%s\" can't be used: it is not on this timeline, its chain is broken "
                     "or the WAL that it needs is not in the archive",
                     p->o->backup_label);
    else
        wa_error_set(err, WA_UNREACHABLE, "no backup of the archive can be used on this timeline");
    return wa_error_hint(err,
                         "%s\"walagent list\" shows backups, windows and holes; \"walagent "
                         "backup\" takes a new one.",
                         mirror);
}

/* ---- what has to be fetched ---- */

#define MISSING_MAX 64u

typedef struct wal_sum {
    uint64_t bytes, count;
    wa_segno next, to;
    wa_segno missing[MISSING_MAX]; /* that the index has and the listing hasn't */
    size_t missing_count;
} wal_sum;

static void
note_missing(wal_sum *s, wa_segno until)
{
    for (; s->next < until && s->missing_count < MISSING_MAX; s->next++)
        s->missing[s->missing_count++] = s->next;
    s->next = until;
}

static wa_status
add_segment(void *arg, wa_segno segno, uint64_t stored_size, wa_time modified, wa_error *err)
{
    wal_sum *s = arg;
    (void)modified;
    (void)err;
    if (segno > s->to)
        return WA_CANCELLED;
    note_missing(s, segno);
    s->next = segno + 1;
    s->bytes += stored_size;
    s->count++;
    return WA_OK;
}

/* So many that listing them takes long are estimated from samples: a plan is for people, and
 * answered at once. */
static wa_status
sample_segments(const wa_planning *p, const wa_branch *branch, wa_segno from, uint64_t segments,
                uint64_t *bytes, wa_error *err)
{
    uint64_t step = segments / SUM_SAMPLES;
    wal_sum sum = {0};
    for (uint64_t i = 0; i < SUM_SAMPLES; i++) {
        sum.next = from + i * step + step / 2;
        sum.to = sum.next + SUM_SAMPLE - 1;
        WA_TRY(wa_wal_list(p->o->repo, branch, sum.next, add_segment, &sum, err));
    }
    p->plan->wal_bytes_estimated = true;
    if (sum.count > 0)
        *bytes += (uint64_t)((double)sum.bytes / (double)sum.count * (double)segments);
    return WA_OK;
}

/* Segments [from, to] of a run. */
static wa_status
sum_segments(wa_planning *p, const wa_run *run, wa_segno from, wa_segno to, uint64_t *bytes,
             wa_error *err)
{
    if (to - from + 1 > SUM_EXACTLY)
        return sample_segments(p, &run->branch, from, to - from + 1, bytes, err);
    wal_sum sum = {.next = from, .to = to};
    WA_TRY(wa_wal_list(p->o->repo, &run->branch, from, add_segment, &sum, err));
    note_missing(&sum, to); /* the last one may consist of chunks */
    *bytes += sum.bytes;
    return wa_plan_prove_missing(p, run, sum.missing, sum.missing_count, err);
}

/* Objects of the segments; tail chunks are at most one segment and not counted. */
static wa_status
sum_wal(wa_planning *p, uint64_t *ret, wa_error *err)
{
    const wa_restore_plan *plan = p->plan;
    uint64_t size = wa_repo_cluster(p->o->repo)->segment_size;
    *ret = 0;
    for (size_t i = 0; i < p->view.coverage.count; i++) {
        const wa_run *run = &p->view.coverage.runs[i];
        wa_lsn begin = run->begin < plan->wal_from ? plan->wal_from : run->begin;
        wa_lsn end = run->end > plan->wal_to ? plan->wal_to : run->end;
        if (begin < end)
            WA_TRY(sum_segments(p, run, wa_segno_of(begin, size), wa_segno_of(end - 1, size), ret,
                                err));
    }
    return WA_OK;
}

wa_status
wa_plan_sizes(wa_planning *p, wa_error *err)
{
    wa_restore_plan *plan = p->plan;
    for (size_t i = 0; i < plan->chain_count; i++)
        plan->backup_bytes += plan->chain[i]->stored_bytes;
    return sum_wal(p, &plan->wal_bytes, err);
}

/* The chain is the plan's own: loaded anew, since the list of backups goes. */
static wa_status
load_chain(wa_planning *p, wa_error *err)
{
    wa_restore_plan *plan = p->plan;
    char label[WA_LABEL_SIZE];
    memcpy(label, plan->backup->label, sizeof label);
    plan->backup = NULL;
    for (;;) {
        wa_backup_info *b = NULL;
        WA_TRY(wa_backup_load(p->o->repo, label, &b, err));
        plan->chain = wa_reallocarray(plan->chain, plan->chain_count + 1, sizeof *plan->chain);
        memmove(plan->chain + 1, plan->chain, plan->chain_count * sizeof *plan->chain);
        plan->chain[0] = b;
        plan->chain_count++;
        if (!b->incremental)
            break;
        memcpy(label, b->parent, sizeof label);
    }
    plan->backup = plan->chain[plan->chain_count - 1];
    return WA_OK;
}

/* The timeline that the server is told to follow: the one the target's record lies on. A head that
 * has no WAL yet counts for the end of the archive. */
static void
choose_branch(wa_planning *p)
{
    wa_restore_plan *plan = p->plan;
    const wa_lineage_step *head = wa_lineage_head(p->lineage);
    const wa_branch *branch =
        wa_lineage_at(p->lineage, plan->target_lsn != 0 ? plan->target_lsn : plan->wal_to - 1);
    WA_ASSERT(branch != NULL);
    plan->branch = !plan->has_target && head->begin <= plan->wal_to ? head->branch : *branch;
    /* The server asks for that timeline's WAL only: what leaves it later must not stand before it.
     */
    while (!wa_branch_eq(&wa_lineage_head(p->lineage)->branch, &plan->branch)) {
        plan->chain_end = wa_lineage_head(p->lineage)->begin;
        wa_lineage_cut_after(p->lineage, p->lineage->count - 1);
    }
    if (plan->has_target && plan->end_of_archive)
        plan->chain_end = plan->wal_to;
}

wa_status
wa_restore_plan_make(const wa_restore_options *options, wa_restore_plan **ret, wa_error *err)
{
    WA_CLEANUP(planning_done) wa_planning p = {.o = options, .notes = WA_BUF_INIT(NOTES_MAX)};
    p.plan = wa_calloc(1, sizeof *p.plan);
    WA_TRY(wa_backups_load(options->repo, &p.backups, err));
    WA_TRY(wa_plan_lineage(&p, err));
    WA_TRY(wa_plan_usable(&p, err));
    if (wa_plan_target(&p, err) != WA_OK)
        WA_TRY(wa_plan_explain_damage(&p, err));
    p.plan->wal_from = p.plan->backup->start_lsn;
    WA_TRY(wa_plan_prove(&p, err));
    choose_branch(&p);
    WA_TRY(load_chain(&p, err));
    WA_TRY(wa_plan_sizes(&p, err));
    p.plan->lineage = WA_TAKE(p.lineage);
    wa_plan_describe(&p);
    *ret = WA_TAKE(p.plan);
    return WA_OK;
}
