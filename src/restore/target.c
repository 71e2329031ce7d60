/*
 * restore/target.c - a target as a place in the WAL, and the backup from which it is reached.
 *
 * Every target becomes a record's start: PostgreSQL's recovery_target_lsn stops before the first
 * record that begins at or after it, or behind that record when inclusive. So what the plan says
 * and what the server does agree by construction.
 */
#include "restore_internal.h"

#include <string.h>

/* The newest usable backup that is consistent at or before lsn and from which WAL leads to `end`
 * without a gap. NULL: none. */
static wa_backup_info *
newest_for(const wa_planning *p, wa_lsn lsn, wa_lsn end)
{
    wa_backup_info *best = NULL;
    for (size_t i = 0; i < p->backups.count; i++) {
        wa_backup_info *b = p->backups.items[i];
        if (!p->usable[i] || b->end_lsn > lsn || wa_view_end_from(&p->view, b->start_lsn) < end)
            continue;
        if (best == NULL || b->end_lsn >= best->end_lsn)
            best = b;
    }
    return best;
}

static wa_backup_info *
oldest_usable(const wa_planning *p)
{
    wa_backup_info *oldest = NULL;
    for (size_t i = 0; i < p->backups.count; i++)
        if (p->usable[i] && (oldest == NULL || p->backups.items[i]->end_lsn < oldest->end_lsn))
            oldest = p->backups.items[i];
    return oldest;
}

static wa_lsn
search_from(const wa_planning *p)
{
    wa_lsn from = UINT64_MAX;
    for (size_t i = 0; i < p->backups.count; i++)
        if (p->usable[i] && p->backups.items[i]->start_lsn < from)
            from = p->backups.items[i]->start_lsn;
    return from;
}

/* Why a place can't be reached. */
static wa_status
refuse_place(wa_planning *p, wa_lsn lsn, const char *what, wa_error *err)
{
    char at[WA_LSN_TEXT], a[WA_LSN_TEXT], b[WA_LSN_TEXT];
    const wa_backup_info *oldest = oldest_usable(p);
    wa_lsn tip = wa_coverage_tip(&p->view.coverage);
    wa_lsn_format(lsn, at);
    if (lsn < oldest->end_lsn)
        return wa_plan_unreachable(p, err, "%s (%s) lies before the end of the first backup (%s)",
                                   what, at, wa_lsn_format(oldest->end_lsn, a));
    p->lacking = tip;
    if (lsn > tip)
        return wa_plan_unreachable(p, err, "%s (%s) lies past the end of the archive (%s)", what,
                                   at, wa_lsn_format(tip, a));
    wa_hole holes[64];
    size_t count = wa_coverage_holes(&p->view.coverage, holes, WA_ARRAY_SIZE(holes));
    for (size_t i = 0; i < count && i < WA_ARRAY_SIZE(holes); i++) {
        p->lacking = holes[i].begin;
        if (holes[i].begin < lsn && lsn <= holes[i].end)
            return wa_plan_unreachable(p, err, "%s (%s) lies in a hole of the archive (%s to %s)",
                                       what, at, wa_lsn_format(holes[i].begin, a),
                                       wa_lsn_format(holes[i].end, b));
    }
    for (size_t i = count < WA_ARRAY_SIZE(holes) ? count : WA_ARRAY_SIZE(holes); i > 0; i--) {
        p->lacking = holes[i - 1].begin;
        if (holes[i - 1].end <= lsn)
            return wa_plan_unreachable(p, err,
                                       "%s (%s) lies behind a hole of the archive (%s to %s) and "
                                       "no backup after it",
                                       what, at, wa_lsn_format(holes[i - 1].begin, a),
                                       wa_lsn_format(holes[i - 1].end, b));
    }
    p->lacking = 0;
    return wa_plan_unreachable(p, err, "%s (%s) can't be reached from the backup", what, at);
}

/* The transactions beside a target are told, not needed: damage there is no reason to refuse. */
static wa_status
may_be_unknown(wa_planning *p, wa_status status, wa_error *err)
{
    if (!wa_is_damage(status))
        return status;
    wa_plan_note(p, "which transactions lie beside the target is not known (%.300s)", err->message);
    wa_error_clear(err);
    return WA_OK;
}

/* The target is this record; the copy holds it when inclusive. */
static wa_status
aim_at_record(wa_planning *p, wa_lsn lsn, wa_lsn end, bool inclusive, const char *what,
              wa_error *err)
{
    wa_restore_plan *plan = p->plan;
    wa_backup_info *b = newest_for(p, lsn, end);
    if (b == NULL)
        return refuse_place(p, lsn, what, err);
    plan->backup = b;
    plan->has_target = true;
    plan->target_lsn = lsn;
    plan->target_inclusive = inclusive;
    plan->wal_to = inclusive ? end : lsn;
    wa_lsn stretch_begin = 0, stretch_end = end;
    (void)wa_view_stretch(&p->view, b->start_lsn, &stretch_begin, &stretch_end);
    wa_lsn boundary = inclusive ? lsn + 1 : lsn;
    WA_TRY(may_be_unknown(
        p, wa_search_before(&p->view, stretch_begin, boundary, end, &plan->before, err), err));
    return may_be_unknown(p, wa_search_after(&p->view, boundary, stretch_end, &plan->after, err),
                          err);
}

/* Past damage in WAL that the recovery needs: what only can't be followed is accepted when that was
 * asked for, what can't be had never, but from a primary. */
static bool
may_go_on(const wa_planning *p)
{
    return wa_plan_has_primary(p) || (p->o->accept_unchecked_wal && !p->reads.lost);
}

/* The target is the end of the stretch that the backup leads to. */
static wa_status
aim_at_end(wa_planning *p, wa_backup_info *b, bool has_target, wa_error *err)
{
    wa_restore_plan *plan = p->plan;
    plan->backup = b;
    plan->has_target = has_target;
    plan->end_of_archive = true;
    plan->wal_to = wa_view_end_from(&p->view, b->start_lsn);
    plan->target_lsn = 0;
    p->tried = b;
    p->reads.lost = false;
    wa_status status =
        wa_search_before(&p->view, b->start_lsn, plan->wal_to, plan->wal_to, &plan->before, err);
    return may_go_on(p) ? may_be_unknown(p, status, err) : status;
}

/* ---- latest, consistent ---- */

static wa_status
target_latest(wa_planning *p, wa_error *err)
{
    wa_lsn tip = wa_coverage_tip(&p->view.coverage);
    wa_backup_info *b = newest_for(p, UINT64_MAX, tip);
    if (b == NULL && wa_plan_has_primary(p)) {
        b = newest_for(p, UINT64_MAX, 0);
        wa_plan_note(p, "WARNING: the archive has a hole behind this backup: the replica needs "
                        "that WAL from its primary");
    }
    if (b == NULL)
        return refuse_place(p, tip, "the end of the archive", err);
    return aim_at_end(p, b, false, err);
}

static wa_status
target_consistent(wa_planning *p, wa_error *err)
{
    wa_backup_info *b = newest_for(p, UINT64_MAX, 0);
    WA_ASSERT(b != NULL);
    p->plan->backup = b;
    p->plan->has_target = true;
    p->plan->target_inclusive = true;
    p->plan->wal_to = b->end_lsn;
    p->tried = b;
    p->reads.lost = false;
    wa_status status =
        wa_search_before(&p->view, b->start_lsn, b->end_lsn, b->end_lsn, &p->plan->before, err);
    WA_TRY(may_go_on(p) ? may_be_unknown(p, status, err) : status);
    return may_be_unknown(p,
                          wa_search_after(&p->view, b->end_lsn,
                                          wa_view_end_from(&p->view, b->start_lsn), &p->plan->after,
                                          err),
                          err);
}

/* ---- LSN ---- */

static wa_status
target_lsn(wa_planning *p, wa_error *err)
{
    wa_lsn lsn = p->o->lsn, begin = 0, end = 0, record = 0, record_end = 0;
    if (!wa_view_stretch(&p->view, lsn, &begin, &end))
        return refuse_place(p, lsn, "the target", err);
    p->tried = newest_for(p, lsn, lsn);
    WA_TRY(wa_search_record(&p->view, lsn, end, &record, &record_end, err));
    if (record != 0)
        return aim_at_record(p, record, record_end, !p->o->exclusive, "the target", err);
    /* Nothing begins there: everything before it is everything that there is. */
    wa_backup_info *b = newest_for(p, lsn, end);
    if (b == NULL)
        return refuse_place(p, lsn, "the target", err);
    wa_plan_note(p, "no record begins at or behind the given place: the target is the end of the "
                    "WAL that leads there");
    return aim_at_end(p, b, true, err);
}

/* ---- time ---- */

/* A backup whose start already holds a transaction later than T can't give the state at T. Clocks
 * differ, so the WAL is asked as well as the backup's own time. */
static wa_status
holds_too_much(wa_planning *p, const wa_backup_info *b, bool *ret, wa_error *err)
{
    wa_time t = p->o->time;
    wa_lsn begin = 0, end = 0;
    *ret = b->end_time > t;
    if (*ret || !wa_view_stretch(&p->view, b->start_lsn, &begin, &end))
        return WA_OK;
    wa_commit_point last = {0};
    wa_status status = wa_search_before(&p->view, begin, b->start_lsn, b->start_lsn, &last, err);
    if (wa_is_damage(status)) { /* the backup doesn't need that WAL */
        p->reads.lost = false;
        wa_plan_note(p,
                     "whether backup %s holds transactions that are later than the target is not "
                     "known from the WAL (%.200s)",
                     b->label, err->message);
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    *ret = last.known && (p->o->exclusive ? last.time >= t : last.time > t);
    return WA_OK;
}

/* Is it known that nothing was committed up to T behind the end? */
static wa_status
end_is_known_to_reach(wa_planning *p, wa_lsn begin, wa_lsn end, bool *ret, wa_error *err)
{
    wa_time last = WA_TIME_NONE, tip_time = p->view.coverage.tip_time;
    WA_TRY(wa_search_last_time(&p->view, begin, end, &last, err));
    bool at_tip = end == wa_coverage_tip(&p->view.coverage);
    *ret = (last != WA_TIME_NONE && last >= p->o->time) ||
           (at_tip && tip_time != WA_TIME_NONE && tip_time >= p->o->time);
    return WA_OK;
}

/* One backup's answer. *ret_done: the plan has its target. */
static wa_status
time_from_backup(wa_planning *p, wa_backup_info *b, bool *ret_done, bool *ret_past_end,
                 wa_error *err)
{
    bool too_much = false, known = false;
    *ret_done = false;
    p->tried = b;
    WA_TRY(holds_too_much(p, b, &too_much, err));
    if (too_much)
        return WA_OK;
    wa_lsn end = wa_view_end_from(&p->view, b->start_lsn);
    wa_commit_point found = {0};
    WA_TRY(wa_search_time(&p->view, b->start_lsn, end, p->o->time, p->o->exclusive, &found, err));
    if (found.known && found.lsn < b->end_lsn)
        return WA_OK;
    if (!found.known) {
        WA_TRY(end_is_known_to_reach(p, b->start_lsn, end, &known, err));
        *ret_past_end = !known;
        if (!known)
            return WA_OK;
        wa_plan_note(p, "nothing was committed after that time: the target is the end of the "
                        "archive");
        *ret_done = true;
        return aim_at_end(p, b, true, err);
    }
    *ret_done = true;
    p->plan->backup = b;
    p->plan->has_target = true;
    p->plan->target_lsn = p->plan->wal_to = found.lsn;
    p->plan->after = found;
    wa_lsn begin = b->start_lsn, stretch_end = end;
    (void)wa_view_stretch(&p->view, b->start_lsn, &begin, &stretch_end);
    return may_be_unknown(
        p, wa_search_before(&p->view, begin, found.lsn, found.lsn, &p->plan->before, err), err);
}

static wa_status
refuse_time(wa_planning *p, bool past_end, wa_error *err)
{
    char t[WA_TIME_TEXT], b[WA_TIME_TEXT], lsn[WA_LSN_TEXT];
    const wa_backup_info *oldest = oldest_usable(p);
    wa_time_format(p->o->time, t);
    if (oldest->end_time > p->o->time)
        return wa_plan_unreachable(p, err, "%s lies before the end of the first backup (%s)", t,
                                   wa_time_format(oldest->end_time, b));
    if (!past_end)
        return wa_plan_unreachable(p, err, "%s lies within a backup, and no older one leads there",
                                   t);
    wa_hole hole = {0};
    bool holes = wa_coverage_holes(&p->view.coverage, &hole, 1) > 0;
    p->lacking = holes ? hole.begin : wa_coverage_tip(&p->view.coverage);
    if (holes)
        return wa_plan_unreachable(p, err,
                                   "%s lies in or behind a hole of the archive (from %s), and no "
                                   "backup after it leads there",
                                   t, wa_lsn_format(hole.begin, lsn));
    return wa_plan_unreachable(p, err, "%s lies past the end of the archive (%s)", t,
                               wa_lsn_format(wa_coverage_tip(&p->view.coverage), lsn));
}

static wa_status
target_time(wa_planning *p, wa_error *err)
{
    bool past_end = false;
    for (size_t i = p->backups.count; i > 0; i--) {
        bool done = false;
        if (!p->usable[i - 1])
            continue;
        WA_TRY(time_from_backup(p, p->backups.items[i - 1], &done, &past_end, err));
        if (done)
            return WA_OK;
        /* A newer backup's WAL ends before T: an older one's does too, or there is a hole. */
        if (past_end)
            break;
    }
    return refuse_time(p, past_end, err);
}

/* ---- transaction, restore point ---- */

/* What the search could not read: the reason when nothing was found, else a note. */
static wa_status
weigh_damage(wa_planning *p, const wa_search_damage *damage, bool found, const char *what,
             wa_error *err)
{
    if (damage->count == 0)
        return WA_OK;
    if (found) {
        wa_plan_note(p, "%zu WAL segment%s could not be searched (%.500s)", damage->count,
                     damage->count == 1 ? "" : "s", damage->first.message);
        return WA_OK;
    }
    p->unsearched = damage->begin;
    *err = damage->first;
    return wa_error_wrap(err,
                         "found no %s, and %zu WAL segment%s of the archive could not be searched",
                         what, damage->count, damage->count == 1 ? "" : "s");
}

static wa_status
target_xid(wa_planning *p, wa_error *err)
{
    wa_xid_search s = {0};
    uint32_t xid = (uint32_t)p->o->xid; /* records hold no more of it */
    WA_TRY(wa_search_xid(&p->view, search_from(p), UINT64_MAX, xid, &s, err));
    WA_TRY(weigh_damage(p, &s.damage, s.found.known, "end of the transaction", err));
    if (!s.found.known && s.nameless > 0)
        return wa_plan_unreachable(p, err,
                                   "no commit or abort that names transaction %u is in the "
                                   "archive behind its first backup; it may be one of %llu huge "
                                   "prepared transactions whose records don't tell theirs",
                                   xid, (unsigned long long)s.nameless);
    if (!s.found.known)
        return wa_plan_unreachable(p, err,
                                   "the archive has no commit or abort of transaction %u behind "
                                   "its first backup",
                                   xid);
    return aim_at_record(p, s.found.lsn, s.found.end, !p->o->exclusive, "the transaction's end",
                         err);
}

static wa_status
unknown_name(wa_planning *p, const wa_point_search *s, wa_error *err)
{
    const char *near = wa_nearest(p->o->name, (const char *const *)s->names.items, s->names.count);
    return wa_plan_unreachable(p, err, "the archive has no restore point \"%s\"%s%s%s", p->o->name,
                               near != NULL ? "; did you mean \"" : "", near != NULL ? near : "",
                               near != NULL ? "\"?" : "");
}

static wa_status
target_name(wa_planning *p, wa_error *err)
{
    wa_point_search s = {0};
    wa_status status = wa_search_name(&p->view, search_from(p), UINT64_MAX, p->o->name, &s, err);
    if (status == WA_OK)
        status = weigh_damage(p, &s.damage, s.count > 0, "restore point of this name", err);
    if (status == WA_OK && s.count == 0)
        status = unknown_name(p, &s, err);
    if (status == WA_OK && s.count > 1)
        wa_plan_note(p,
                     "there are %zu restore points of this name: the newest "
                     "one is taken",
                     s.count);
    if (status == WA_OK)
        status = aim_at_record(p, s.found.lsn, s.found.end, true, "the restore point", err);
    wa_strv_done(&s.names);
    return status;
}

wa_status
wa_plan_target(wa_planning *p, wa_error *err)
{
    switch (p->o->kind) {
    case WA_TARGET_TIME:
        return target_time(p, err);
    case WA_TARGET_LSN:
        return target_lsn(p, err);
    case WA_TARGET_XID:
        return target_xid(p, err);
    case WA_TARGET_NAME:
        return target_name(p, err);
    case WA_TARGET_CONSISTENT:
        return target_consistent(p, err);
    case WA_TARGET_LATEST:
    default:
        return target_latest(p, err);
    }
}

/* ---- left to the server ---- */

/* A backup from which recovery comes to the target, as far as anybody knows where it is. NULL:
 * none. */
static wa_backup_info *
backup_for_server(const wa_planning *p)
{
    bool anywhere = p->o->kind == WA_TARGET_XID || p->o->kind == WA_TARGET_NAME;
    return anywhere ? newest_for(p, p->unsearched, p->unsearched) : p->tried;
}

wa_status
wa_plan_leave_to_server(wa_planning *p, wa_error *err)
{
    wa_restore_plan *plan = p->plan;
    uint64_t size = wa_repo_cluster(p->o->repo)->segment_size;
    wa_backup_info *b = backup_for_server(p);
    if (b == NULL || p->o->kind == WA_TARGET_LATEST || p->o->kind == WA_TARGET_CONSISTENT)
        return err->status;
    wa_error_clear(err);
    plan->backup = b;
    plan->has_target = plan->target_by_server = true;
    plan->target_inclusive = !p->o->exclusive;
    plan->wal_to = wa_view_end_from(&p->view, b->start_lsn);
    if (p->o->kind == WA_TARGET_LSN) {
        wa_lsn behind = wa_segment_start(wa_segno_of(p->o->lsn, size) + 1, size);
        plan->target_lsn = p->o->lsn;
        plan->wal_to = behind < plan->wal_to ? behind : plan->wal_to;
    }
    wa_plan_note(p, "WARNING: WAL that was archived unchecked and can't be followed lies where the "
                    "target would be looked for: the server has to find it, and recovery ends with "
                    "an error if it doesn't");
    return WA_OK;
}
