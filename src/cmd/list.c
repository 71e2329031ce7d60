/*
 * list.c - walagent list: backups, the windows that can be reached, and the holes.
 */
#include "commands_internal.h"

#include "walagent/audit/window.h"

#include <string.h>

static const char *
time_text(wa_time t, char out[static WA_TIME_TEXT])
{
    if (t == WA_TIME_NONE)
        return "-";
    wa_time_format(t - (t % 1000000 + 1000000) % 1000000, out);
    return out;
}

static void
print_backups(const wa_windows *w)
{
    if (w->backups.count == 0) {
        puts("no backups");
        return;
    }
    WA_CLEANUP(wa_table_freep) wa_table *t = wa_table_new(9);
    static const char *const head[] = {"BACKUP", "TYPE",     "FINISHED", "TOOK", "SIZE",
                                       "STORED", "WAL FROM", "TO",       "NOTE"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(head); i++)
        wa_table_cell(t, head[i]);
    for (size_t i = 0; i < w->backups.count; i++) {
        const wa_backup_info *b = w->backups.items[i];
        char text[WA_TIME_TEXT], size[WA_SIZE_TEXT], lsn[WA_LSN_TEXT];
        wa_table_cell(t, b->label);
        wa_table_cell(t, b->incremental ? "incremental" : "full");
        wa_table_cell(t, time_text(b->end_time, text));
        wa_table_cell(t,
                      wa_format_duration_ms((uint64_t)(b->end_time - b->start_time) / 1000, size));
        wa_table_cell(t, wa_format_size(b->raw_bytes, size));
        wa_table_cell(t, wa_format_size(b->stored_bytes, size));
        wa_table_cell(t, wa_lsn_format(b->start_lsn, lsn));
        wa_table_cell(t, wa_lsn_format(b->end_lsn, lsn));
        WA_CLEANUP(wa_freep)
        char *note = wa_format(
            "%s%s%s%s", b->note ? b->note : "", b->incremental ? (b->note ? "; on " : "on ") : "",
            b->incremental ? b->parent : "",
            wa_windows_backup_usable(w, b) ? "" : " (its WAL is not complete: not usable)");
        wa_table_cell(t, note);
    }
    wa_table_print(t, stdout);
}

/* A promotion that nobody has accepted: where only hooks archive nobody does by itself. */
static void
print_unadopted(const wa_windows *w)
{
    const wa_lineage_step *head = wa_lineage_head(w->lineage);
    for (size_t i = 0; i < w->count; i++) {
        const wa_window *v = &w->items[i];
        char text[WA_BRANCH_TEXT];
        if (v->accepted || head == NULL || v->branch.tli <= head->branch.tli ||
            wa_lineage_is_rejected(w->lineage, &v->branch))
            continue;
        printf("timeline %X is newer than the accepted lineage: the agent adopts it when it "
               "streams it, or a person by \"walagent lineage adopt %s\"\n",
               v->branch.tli, wa_branch_format(&v->branch, text));
    }
}

static void
print_windows(const wa_windows *w)
{
    if (w->count == 0) {
        puts("\nnothing can be restored yet");
        return;
    }
    puts("\nreachable:");
    WA_CLEANUP(wa_table_freep) wa_table *t = wa_table_new(7);
    static const char *const head[] = {"TIMELINE", "FROM", "LAST COMMIT", "FROM LSN", "TO LSN",
                                       "BACKUPS",  ""};
    for (size_t i = 0; i < WA_ARRAY_SIZE(head); i++)
        wa_table_cell(t, head[i]);
    for (size_t i = 0; i < w->count; i++) {
        const wa_window *v = &w->items[i];
        char text[WA_TIME_TEXT], lsn[WA_LSN_TEXT];
        WA_CLEANUP(wa_freep) char *tli = wa_format("%X", v->branch.tli);
        WA_CLEANUP(wa_freep) char *count = wa_format("%zu", v->backups);
        wa_table_cell(t, tli);
        wa_table_cell(t, time_text(v->begin_time, text));
        wa_table_cell(t, time_text(v->end_time, text));
        wa_table_cell(t, wa_lsn_format(v->begin, lsn));
        wa_table_cell(t, wa_lsn_format(v->end, lsn));
        wa_table_cell(t, count);
        WA_CLEANUP(wa_freep)
        char *remark =
            v->accepted ? wa_strdup("") : wa_format("not accepted: branch %s", v->branch.id);
        wa_table_cell(t, remark);
    }
    wa_table_print(t, stdout);
    print_unadopted(w);
}

static void
print_hole(const wa_hole *hole, const wa_hole_times *times)
{
    char a[WA_LSN_TEXT], b[WA_LSN_TEXT], text[WA_TIME_TEXT];
    printf("HOLE: WAL from %s to %s %s\n", wa_lsn_format(hole->begin, a),
           wa_lsn_format(hole->end, b),
           times->archived ? "was archived unchecked, and its records can't be followed"
                           : "is not in the archive");
    printf("      the last transaction before it ended at %s", time_text(times->last_before, text));
    printf(", the first behind it at %s\n", time_text(times->first_after, text));
    if (times->reachable_from == WA_TIME_NONE)
        puts("      no backup leads to what is behind it");
    else
        printf("      what follows can be reached again from %s on, the end of a backup\n",
               time_text(times->reachable_from, text));
    if (times->archived)
        puts("      \"walagent restore --accept-unchecked-wal\" lets a server try to get through");
}

static void
print_troubles(const wa_windows *w)
{
    for (size_t i = 0; i < w->hole_count && i < WA_ARRAY_SIZE(w->holes); i++)
        print_hole(&w->holes[i], &w->hole_times[i]);
    if (w->hole_count > WA_ARRAY_SIZE(w->holes))
        printf("HOLE: and %zu more\n", w->hole_count - WA_ARRAY_SIZE(w->holes));
    if (w->unread_from != 0) {
        char lsn[WA_LSN_TEXT];
        printf("UNREAD: from %s on more WAL segments were archived unchecked than were read\n",
               wa_lsn_format(w->unread_from, lsn));
        puts("        whether a recovery gets through them is not known: \"walagent verify --wal\" "
             "reads them");
    }
    for (size_t i = 0; i < w->backups.damaged.count; i++)
        printf("DAMAGED: %s\n", w->backups.damaged.items[i]);
    for (size_t i = 0; i < w->backups.unfinished.count; i++)
        printf("unfinished: %s (running, or interrupted and not yet cleaned up)\n",
               w->backups.unfinished.items[i]);
}

/* --require: the question of a monitoring check, answered by exit code 3. */
static wa_status
check_required(const wa_context *ctx, const wa_windows *w, wa_error *err)
{
    const char *value = wa_arg_value(ctx, "require");
    if (value == NULL)
        return WA_OK;
    if (strcmp(value, "no-hole") == 0) {
        if (w->hole_count > 0 || w->count == 0 || w->backups.damaged.count > 0)
            return wa_error_set(err, WA_UNREACHABLE, "%s",
                                w->count == 0       ? "nothing can be restored"
                                : w->hole_count > 0 ? "the archive has a hole"
                                                    : "a backup's description is damaged");
        return WA_OK;
    }
    wa_time t = WA_TIME_NONE;
    if (wa_time_parse(value, wa_time_now(), &t, err) != WA_OK)
        return wa_error_wrap(err, "--require takes \"no-hole\" or a time");
    for (size_t i = 0; i < w->count; i++) {
        const wa_window *v = &w->items[i];
        wa_time end = v->end_time != WA_TIME_NONE ? v->end_time : v->begin_time;
        if (v->accepted && t >= v->begin_time && t <= end)
            return WA_OK;
    }
    return wa_error_set(err, WA_UNREACHABLE, "\"%s\" is in none of the reachable windows", value);
}

static wa_status
run(wa_context *ctx, wa_error *err)
{
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_TRY(wa_context_repo(ctx, WA_REPO_READ, true, &repo, err));
    WA_CLEANUP(wa_windows_done) wa_windows w = {0};
    WA_TRY(wa_windows_load(repo, &w, err));
    wa_tell_of_mirrors(repo);
    WA_CLEANUP(wa_json_freep) json_t *mirrors = wa_list_mirrors(ctx, repo);
    if (ctx->json) {
        WA_CLEANUP(wa_json_freep) json_t *json = wa_windows_to_json(repo, &w);
        if (mirrors != NULL)
            wa_json_set(json, "mirrors", WA_TAKE(mirrors));
        wa_print_json(json);
    } else {
        print_backups(&w);
        print_windows(&w);
        print_troubles(&w);
        wa_list_mirrors_print(mirrors);
    }
    return check_required(ctx, &w, err);
}

static const wa_command_option options[] = {
    {"require", 0, WA_ARG_VALUE, "no-hole|TIME",
     "Exit with 3 unless the archive has no hole and no damage, or unless TIME can be reached."},
    {"json", 0, WA_ARG_FLAG, NULL, "JSON (docs/json.md)."},
    WA_OPTION_REPOSITORY,
    {NULL, 0, WA_ARG_FLAG, NULL, NULL},
};

const wa_command wa_command_list = {
    .name = "list",
    .summary = "backups, the times that can be reached, and holes",
    .options = options,
    .description =
        "Shows the backups with size and duration, then the windows that can be restored per "
        "timeline, in times and LSNs, then holes between them, damaged and unfinished backups. WAL "
        "that was archived unchecked is read: where its records can't be followed a window ends, "
        "as a recovery would, and a hole is shown. Of more than 16 such segments the others are "
        "told of as unread; --require doesn't look at them.",
    .exit_codes = "  0   listed\n  3   --require is not met",
    .example =
        "  walagent list\n  walagent list --require no-hole\n  walagent list --require -24h --json",
    .run = run,
};
