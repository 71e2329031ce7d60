/*
 * verify.c - verify's frame: which branches and backups, coverage, and the result.
 */
#include "walagent/audit/verify.h"

#include "verify_internal.h"

#include <stdarg.h>
#include <string.h>

void
wa_verify_add(wa_verify *v, const char *kind, const char *object, const char *cost,
              const char *mirror, const char *message)
{
    WA_LOCK(&v->mutex);
    wa_verify_result *r = v->result;
    r->damage = wa_reallocarray(r->damage, r->damage_count + 1, sizeof *r->damage);
    wa_damage *d = &r->damage[r->damage_count++];
    memset(d, 0, sizeof *d);
    snprintf(d->kind, sizeof d->kind, "%s", kind);
    d->object = wa_strdup(object);
    d->message = wa_strdup(message);
    d->cost = wa_strdup(cost);
    d->mirror = wa_strdup(mirror);
    d->warning =
        strcmp(kind, "unchecked") == 0 || strcmp(kind, "index") == 0 || strcmp(kind, "sums") == 0;
    r->warning_count += d->warning;
}

void
wa_verify_damage(wa_verify *v, const char *kind, const char *object, const char *cost,
                 const char *fmt, ...)
{
    char message[WA_ERROR_MESSAGE_SIZE];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    wa_verify_add(v, kind, object, cost, NULL, message);
}

void
wa_verify_result_done(wa_verify_result *r)
{
    for (size_t i = 0; i < r->damage_count; i++) {
        wa_freep(&r->damage[i].object);
        wa_freep(&r->damage[i].message);
        wa_freep(&r->damage[i].cost);
        wa_freep(&r->damage[i].mirror);
    }
    wa_freep(&r->damage);
    memset(r, 0, sizeof *r);
}

static wa_status
verify_branches(wa_verify *v, wa_error *err)
{
    WA_CLEANUP(wa_freep) wa_branch *branches = NULL;
    size_t count = 0;
    WA_TRY(wa_branches_all(v->options->repo, &branches, &count, err));
    for (size_t i = 0; i < count; i++)
        WA_TRY(wa_verify_branch(v, &branches[i], err));
    return WA_OK;
}

static wa_status
verify_backups(wa_verify *v, const wa_backups *backups, wa_error *err)
{
    const char *which = v->options->backup;
    if (strcmp(which, "all") != 0)
        return wa_verify_backup(v, which, err);
    for (size_t i = 0; i < backups->count; i++)
        WA_TRY(wa_verify_backup(v, backups->items[i]->label, err));
    return WA_OK;
}

/* What the objects' checks can't see: WAL that isn't there at all. */
static void
verify_coverage(wa_verify *v, const wa_windows *w)
{
    for (size_t i = 0; i < w->hole_count && i < WA_ARRAY_SIZE(w->holes); i++) {
        char a[WA_LSN_TEXT], b[WA_LSN_TEXT];
        bool archived = w->hole_times[i].archived;
        if (archived && v->options->wal) /* it was read, and told */
            continue;
        WA_CLEANUP(wa_freep)
        char *where = wa_format("%s to %s", wa_lsn_format(w->holes[i].begin, a),
                                wa_lsn_format(w->holes[i].end, b));
        WA_CLEANUP(wa_freep)
        char *cost = archived ? wa_verify_cost(v, wa_lineage_at(w->lineage, w->holes[i].begin),
                                               w->holes[i].begin, w->holes[i].end)
                              : wa_verify_cost_of_hole(v, w->holes[i].begin, w->holes[i].end);
        wa_verify_damage(v, "hole", where, cost, "WAL from %s to %s %s", a, b,
                         archived ? "was archived unchecked, and its records can't be followed"
                                  : "is not in the archive");
    }
    if (w->unread_from != 0 && !v->options->wal) {
        char from[WA_LSN_TEXT];
        wa_verify_damage(v, "unchecked", wa_lsn_format(w->unread_from, from), NULL,
                         "WAL segments from %s on were archived unchecked and were not read", from);
    }
    for (size_t i = 0; i < w->backups.count; i++)
        if (!wa_windows_backup_usable(w, w->backups.items[i]))
            wa_verify_damage(v, "backup", w->backups.items[i]->label,
                             "this backup can't be restored",
                             "the WAL that backup %s needs is not complete in the archive",
                             w->backups.items[i]->label);
    for (size_t i = 0; i < w->backups.damaged.count; i++)
        wa_verify_damage(v, "backup", w->backups.damaged.items[i], "this backup can't be restored",
                         "%s", w->backups.damaged.items[i]);
}

wa_status
wa_verify_run(const wa_verify_options *options, wa_verify_result *ret, wa_error *err)
{
    WA_CLEANUP(wa_verify_result_done) wa_verify_result result = {0};
    WA_CLEANUP(wa_windows_done) wa_windows windows = {0};
    wa_verify v = {.options = options, .result = &result, .windows = &windows};
    WA_TRY(wa_windows_load(options->repo, &windows, err));
    wa_mutex_init(&v.mutex);
    wa_status status = options->wal ? verify_branches(&v, err) : WA_OK;
    if (status == WA_OK && options->wal)
        status = wa_verify_acknowledged(&v, err);
    if (status == WA_OK && options->backup != NULL)
        status = verify_backups(&v, &windows.backups, err);
    if (status == WA_OK)
        verify_coverage(&v, &windows);
    wa_mutex_done(&v.mutex);
    wa_verify_away_done(&v);
    WA_TRY(status);
    *ret = result;
    memset(&result, 0, sizeof result);
    return WA_OK;
}

json_t *
wa_verify_to_json(const wa_verify_result *r)
{
    json_t *json = json_object(), *list = json_array();
    wa_json_set_u64(json, "segments", r->segments);
    wa_json_set_u64(json, "skipped_segments", r->skipped_segments);
    wa_json_set_u64(json, "chunks", r->chunks);
    wa_json_set_u64(json, "records", r->records);
    wa_json_set_u64(json, "wal_bytes", r->wal_bytes);
    wa_json_set_u64(json, "backups", r->backups);
    wa_json_set_u64(json, "files", r->files);
    wa_json_set_u64(json, "backup_bytes", r->backup_bytes);
    for (size_t i = 0; i < r->damage_count; i++) {
        json_t *one = json_object();
        wa_json_set_string(one, "kind", r->damage[i].kind);
        wa_json_set_string(one, "object", r->damage[i].object);
        wa_json_set_string(one, "message", r->damage[i].message);
        wa_json_set_string(one, "cost", r->damage[i].cost);
        wa_json_set_string(one, "mirror", r->damage[i].mirror);
        json_array_append_new(list, one);
    }
    wa_json_set(json, "damage", list);
    return json;
}
