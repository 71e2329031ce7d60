/*
 * restore/describe.c - a plan in words and in JSON, and what can be reached when a target can't.
 */
#include "restore_internal.h"

#include <stdarg.h>
#include <string.h>

#define TEXT_MAX (4u << 20) /* the notes are at most 1 MiB of it */

/* ---- what can be reached ---- */

/* One stretch without a gap: from the end of its first usable backup to its end. */
static void
add_reachable(const wa_planning *p, wa_lsn begin, wa_lsn end, wa_buf *out)
{
    char a[WA_LSN_TEXT], b[WA_LSN_TEXT], at[WA_TIME_TEXT], bt[WA_TIME_TEXT];
    const wa_backup_info *first = NULL;
    for (size_t i = 0; i < p->backups.count; i++) {
        const wa_backup_info *x = p->backups.items[i];
        if (p->usable[i] && x->start_lsn >= begin && x->end_lsn <= end &&
            (first == NULL || x->end_lsn < first->end_lsn))
            first = x;
    }
    if (first == NULL)
        return;
    wa_error ignored = WA_ERROR_INIT;
    wa_commit_point last = {0};
    if (wa_search_before(&p->view, first->end_lsn, end, end, &last, &ignored) != WA_OK)
        last.known = false;
    wa_buf_printf(out, "%s%s (%s) to %s (%s)", out->len > 0 ? "; " : "",
                  wa_lsn_format(first->end_lsn, a), wa_time_format(first->end_time, at),
                  wa_lsn_format(end, b),
                  last.known ? wa_time_format(last.time, bt) : "no commit in it");
}

wa_status
wa_plan_unreachable(wa_planning *p, wa_error *err, const char *fmt, ...)
{
    char message[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    WA_CLEANUP(wa_buf_done) wa_buf list = WA_BUF_INIT(TEXT_MAX);
    const wa_coverage *c = &p->view.coverage;
    for (size_t first = 0; first < c->count && list.len < WA_ERROR_HINT_SIZE;) {
        size_t last = first;
        while (last + 1 < c->count && c->runs[last + 1].begin <= c->runs[last].end)
            last++;
        add_reachable(p, c->runs[first].begin, c->runs[last].end, &list);
        first = last + 1;
    }
    WA_CLEANUP(wa_freep)
    char *mirror = p->lacking != 0 ? wa_plan_lacking_hint_at(p, p->lacking) : wa_strdup("");
    wa_error_set(err, WA_UNREACHABLE, "%s", message);
    if (list.len == 0)
        return wa_error_hint(err, "%sNothing can be reached on this timeline.", mirror);
    return wa_error_hint(err, "%sReachable: %s.", mirror, wa_buf_str(&list));
}

/* ---- text ---- */

void
wa_plan_note(wa_planning *p, const char *fmt, ...)
{
    char line[1500];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (p->notes.len + sizeof line + 4 > p->notes.max) {
        p->notes_untold++;
        return;
    }
    wa_buf_printf(&p->notes, "  %s\n", line);
}

void
wa_plan_forget_notes(wa_planning *p, size_t keep)
{
    if (p->notes.len <= keep)
        return;
    p->notes.len = keep;
    p->notes.data[keep] = '\0';
}

static void
describe_point(wa_buf *out, const char *what, const wa_commit_point *point)
{
    char lsn[WA_LSN_TEXT], time[WA_TIME_TEXT];
    if (!point->known)
        return;
    wa_buf_printf(out, "  %s: %s of transaction %u at %s (%s)\n", what,
                  point->commit ? "commit" : "abort", point->xid, wa_time_format(point->time, time),
                  wa_lsn_format(point->lsn, lsn));
}

static void
describe_target(const wa_planning *p, wa_buf *out)
{
    const wa_restore_plan *plan = p->plan;
    char a[WA_LSN_TEXT], time[WA_TIME_TEXT];
    switch (p->o->kind) {
    case WA_TARGET_TIME:
        wa_buf_printf(out, "Target: %s%s", p->o->exclusive ? "before " : "",
                      wa_time_format(p->o->time, time));
        break;
    case WA_TARGET_LSN:
        wa_buf_printf(out, "Target: LSN %s", wa_lsn_format(p->o->lsn, a));
        break;
    case WA_TARGET_XID:
        wa_buf_printf(out, "Target: transaction %llu", (unsigned long long)p->o->xid);
        if (p->o->xid > UINT32_MAX)
            wa_buf_printf(out, " (%u in the WAL)", (uint32_t)p->o->xid);
        break;
    case WA_TARGET_NAME:
        wa_buf_printf(out, "Target: restore point \"%s\"", p->o->name);
        break;
    case WA_TARGET_CONSISTENT:
        wa_buf_puts(out, "Target: the backup's own consistent end\n");
        return;
    case WA_TARGET_LATEST:
    default:
        wa_buf_puts(out, p->o->standby ? "Replica: follows its primary\n"
                                       : "Target: the end of the archive\n");
        return;
    }
    if (plan->target_by_server)
        wa_buf_puts(out, ": the server has to find it\n");
    else if (plan->end_of_archive)
        wa_buf_printf(out, ": the end of the WAL there is, %s\n", wa_lsn_format(plan->wal_to, a));
    else
        wa_buf_printf(out, ": %s the record at %s\n", plan->target_inclusive ? "behind" : "before",
                      wa_lsn_format(plan->target_lsn, a));
}

static void
note_mirrored(wa_planning *p)
{
    const wa_strv *names = &p->reads.mirrored;
    if (names->count == 0)
        return;
    wa_plan_note(p,
                 "WARNING: %s%zu WAL segment%s damaged in the main repository and read from a "
                 "mirror (%s\"%s\", from \"%s\"): recovery has to read %s there, too",
                 names->count == WA_MIRRORED_MAX ? "at least " : "", names->count,
                 names->count == 1 ? " is" : "s are",
                 names->count == 1 ? "" : "the first: ", names->items[0], p->reads.mirror,
                 names->count == 1 ? "it" : "them");
}

void
wa_plan_describe(wa_planning *p)
{
    wa_restore_plan *plan = p->plan;
    char a[WA_LSN_TEXT], b[WA_LSN_TEXT], time[WA_TIME_TEXT], branch[WA_BRANCH_TEXT];
    char bytes[WA_SIZE_TEXT], wal[WA_SIZE_TEXT];
    WA_CLEANUP(wa_buf_done) wa_buf out = WA_BUF_INIT(TEXT_MAX);
    wa_buf_printf(&out, "Backup: %s (%s, from %s)\n", plan->backup->label,
                  plan->backup->incremental ? "incremental" : "full",
                  wa_time_format(plan->backup->end_time, time));
    for (size_t i = 0; i + 1 < plan->chain_count; i++)
        wa_buf_printf(&out, "  builds on %s\n", plan->chain[plan->chain_count - 2 - i]->label);
    wa_buf_printf(&out, "WAL: %s to %s, timeline %u (%s)\n", wa_lsn_format(plan->wal_from, a),
                  wa_lsn_format(plan->wal_to, b), plan->branch.tli,
                  wa_branch_format(&plan->branch, branch));
    wa_buf_printf(&out, "To fetch: %s%s of backup, %s%s of WAL\n", p->o->delta ? "at most " : "",
                  wa_format_size(plan->backup_bytes, bytes),
                  plan->wal_bytes_estimated ? "about " : "", wa_format_size(plan->wal_bytes, wal));
    describe_target(p, &out);
    note_mirrored(p);
    wa_buf_puts(&out, wa_buf_str(&p->notes));
    if (p->notes_untold > 0)
        wa_buf_printf(&out, "  and %zu more lines like these\n", p->notes_untold);
    describe_point(&out, "last in the copy", &plan->before);
    describe_point(&out, "first not in it", &plan->after);
    plan->text = wa_buf_detach(&out);
}

/* ---- JSON ---- */

static void
set_lsn(json_t *obj, const char *key, wa_lsn lsn)
{
    char text[WA_LSN_TEXT];
    wa_json_set_string(obj, key, lsn == 0 ? NULL : wa_lsn_format(lsn, text));
}

static json_t *
point_to_json(const wa_commit_point *point)
{
    char time[WA_TIME_TEXT];
    if (!point->known)
        return json_null();
    json_t *json = json_object();
    wa_json_set_string(json, "kind", point->commit ? "commit" : "abort");
    wa_json_set_i64(json, "xid", point->xid);
    set_lsn(json, "lsn", point->lsn);
    set_lsn(json, "end_lsn", point->end);
    wa_json_set_string(json, "time", wa_time_format_rfc3339(point->time, time));
    return json;
}

json_t *
wa_restore_plan_to_json(const wa_restore_plan *plan)
{
    char branch[WA_BRANCH_TEXT];
    json_t *json = json_object(), *chain = json_array();
    for (size_t i = 0; i < plan->chain_count; i++)
        wa_json_add_string(chain, plan->chain[i]->label);
    wa_json_set_string(json, "backup", plan->backup->label);
    wa_json_set(json, "chain", chain);
    wa_json_set_string(json, "branch", wa_branch_format(&plan->branch, branch));
    wa_json_set_i64(json, "timeline", plan->branch.tli);
    set_lsn(json, "wal_from_lsn", plan->wal_from);
    set_lsn(json, "wal_to_lsn", plan->wal_to);
    wa_json_set_u64(json, "backup_bytes", plan->backup_bytes);
    wa_json_set_u64(json, "wal_bytes", plan->wal_bytes);
    wa_json_set_bool(json, "wal_bytes_estimated", plan->wal_bytes_estimated);
    wa_json_set_bool(json, "wal_read", plan->wal_read);
    wa_json_set_bool(json, "has_target", plan->has_target);
    set_lsn(json, "target_lsn", plan->target_lsn);
    wa_json_set_bool(json, "target_inclusive", plan->target_inclusive);
    wa_json_set_bool(json, "target_by_server", plan->target_by_server);
    wa_json_set_bool(json, "end_of_archive", plan->end_of_archive);
    wa_json_set(json, "before", point_to_json(&plan->before));
    wa_json_set(json, "after", point_to_json(&plan->after));
    wa_json_set_string(json, "text", plan->text);
    return json;
}
