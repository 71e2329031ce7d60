/*
 * log.c - walagent log: what happened when.
 */
#include "commands_internal.h"

#include "walagent/audit/log.h"

#include <string.h>
#include <unistd.h>

#define BARS 24
#define BAR_WIDTH 40

static const char *
time_text(wa_time t, char out[static WA_TIME_TEXT])
{
    if (t == WA_TIME_NONE)
        return "-";
    return wa_time_format(t, out);
}

static void
set_time(json_t *obj, const char *key, wa_time t)
{
    char text[WA_TIME_TEXT];
    wa_json_set_string(obj, key, t == WA_TIME_NONE ? NULL : wa_time_format_rfc3339(t, text));
}

static void
set_lsn(json_t *obj, const char *key, wa_lsn lsn)
{
    char text[WA_LSN_TEXT];
    wa_json_set_string(obj, key, wa_lsn_format(lsn, text));
}

static const char *
moment_name(wa_moment_kind kind)
{
    switch (kind) {
    case WA_MOMENT_RESTORE_POINT:
        return "restore point";
    case WA_MOMENT_CHECKPOINT:
        return "checkpoint";
    case WA_MOMENT_FORK:
        return "fork";
    case WA_MOMENT_HOLE:
        return "hole";
    }
    return "?";
}

static bool
is_shown(const wa_context *ctx, const wa_moment *m)
{
    return m->kind != WA_MOMENT_CHECKPOINT || strcmp(m->text, "shutdown") == 0 ||
           wa_arg_flag(ctx, "checkpoints");
}

static void
print_bars(const wa_log_overview *o)
{
    uint64_t most = 1;
    for (size_t i = 0; i < o->count; i++)
        most = o->commits[i] > most ? o->commits[i] : most;
    for (size_t i = 0; i < o->count; i++) {
        char text[WA_TIME_TEXT], bar[BAR_WIDTH + 1];
        size_t width = (size_t)(o->commits[i] * BAR_WIDTH / most);
        if (width == 0 && o->commits[i] > 0)
            width = 1;
        memset(bar, '#', width);
        bar[width] = '\0';
        printf("%-30s %8llu %s\n", time_text(o->begin + (int64_t)i * o->interval_us, text),
               (unsigned long long)o->commits[i], bar);
    }
}

static void
print_overview(const wa_context *ctx, const wa_log_overview *o)
{
    char first[WA_TIME_TEXT], last[WA_TIME_TEXT], every[WA_SIZE_TEXT];
    if (o->first == WA_TIME_NONE) {
        puts("no transaction ended in this time");
    } else {
        printf("%llu commits and %llu aborts from %s to %s; a line is %s\n",
               (unsigned long long)o->total_commits, (unsigned long long)o->total_aborts,
               time_text(o->first, first), time_text(o->last, last),
               wa_format_duration_ms((uint64_t)o->interval_us / 1000, every));
        print_bars(o);
    }
    WA_CLEANUP(wa_table_freep) wa_table *t = wa_table_new(4);
    for (size_t i = 0; i < o->moment_count; i++) {
        const wa_moment *m = &o->moments[i];
        char time[WA_TIME_TEXT], lsn[WA_LSN_TEXT];
        if (!is_shown(ctx, m))
            continue;
        wa_table_cell(t, time_text(m->time, time));
        wa_table_cell(t, wa_lsn_format(m->lsn, lsn));
        wa_table_cell(t, moment_name(m->kind));
        WA_CLEANUP(wa_freep)
        char *text = wa_format("%s%s",
                               m->kind == WA_MOMENT_HOLE   ? "to "
                               : m->kind == WA_MOMENT_FORK ? "to branch "
                                                           : "",
                               m->text);
        wa_table_cell(t, text);
    }
    wa_table_print(t, stdout);
}

static json_t *
overview_json(const wa_log_overview *o)
{
    json_t *json = json_object(), *bars = json_array(), *moments = json_array();
    wa_json_set_u64(json, "commits", o->total_commits);
    wa_json_set_u64(json, "aborts", o->total_aborts);
    set_time(json, "first", o->first);
    set_time(json, "last", o->last);
    for (size_t i = 0; i < o->count; i++) {
        json_t *one = json_object();
        set_time(one, "from", o->begin + (int64_t)i * o->interval_us);
        wa_json_set_u64(one, "commits", o->commits[i]);
        wa_json_set_u64(one, "aborts", o->aborts[i]);
        json_array_append_new(bars, one);
    }
    for (size_t i = 0; i < o->moment_count; i++) {
        json_t *one = json_object();
        wa_json_set_string(one, "kind", moment_name(o->moments[i].kind));
        set_time(one, "time", o->moments[i].time);
        set_lsn(one, "lsn", o->moments[i].lsn);
        wa_json_set_string(one, "text", o->moments[i].text);
        json_array_append_new(moments, one);
    }
    wa_json_set(json, "intervals", bars);
    wa_json_set(json, "moments", moments);
    return json;
}

static wa_status
overview(wa_context *ctx, const wa_log_options *options, wa_error *err)
{
    WA_CLEANUP(wa_log_overview_done) wa_log_overview o = {0};
    WA_TRY(wa_log_overview_load(options, BARS, &o, err));
    if (!ctx->json) {
        print_overview(ctx, &o);
        return WA_OK;
    }
    WA_CLEANUP(wa_json_freep) json_t *json = overview_json(&o);
    wa_print_json(json);
    return WA_OK;
}

/* "1663/16384/2619, 1663/16384/1259 and 3 more": tablespace, database and relfilenode, as in the
 * data directory. */
static char *
relations_text(const wa_log_xact *x)
{
    WA_CLEANUP(wa_buf_done) wa_buf out = WA_BUF_INIT(4096);
    size_t shown = x->relation_count < WA_XACT_RELATIONS ? x->relation_count : WA_XACT_RELATIONS;
    for (size_t i = 0; i < shown; i++)
        wa_buf_printf(&out, "%s%u/%u/%u", i > 0 ? " " : "", x->relations[i].spc, x->relations[i].db,
                      x->relations[i].rel);
    if (x->relation_count > shown)
        wa_buf_printf(&out, " and %zu more", x->relation_count - shown);
    return wa_buf_detach(&out);
}

static json_t *
xact_json(const wa_log_xact *x)
{
    char branch[WA_BRANCH_TEXT];
    json_t *one = json_object(), *relations = json_array(), *dropped = json_array();
    wa_json_set_string(one, "kind", x->end.commit ? "commit" : "abort");
    wa_json_set_bool(one, "prepared", x->end.prepared);
    wa_json_set_u64(one, "xid", x->end.xid);
    set_time(one, "time", x->end.time);
    set_lsn(one, "lsn", x->lsn);
    set_lsn(one, "end_lsn", x->end_lsn);
    wa_json_set_string(one, "branch", wa_branch_format(&x->branch, branch));
    for (size_t i = 0; i < x->relation_count && i < WA_XACT_RELATIONS; i++) {
        WA_CLEANUP(wa_freep)
        char *text =
            wa_format("%u/%u/%u", x->relations[i].spc, x->relations[i].db, x->relations[i].rel);
        json_array_append_new(relations, json_string(text));
    }
    for (size_t i = 0; i < x->end.dropped_count && i < WA_ARRAY_SIZE(x->end.dropped); i++) {
        WA_CLEANUP(wa_freep)
        char *text = wa_format("%u/%u/%u", x->end.dropped[i].spc, x->end.dropped[i].db,
                               x->end.dropped[i].rel);
        json_array_append_new(dropped, json_string(text));
    }
    wa_json_set(one, "relations", relations);
    wa_json_set(one, "dropped", dropped);
    wa_json_set_u64(one, "dropped_count", x->end.dropped_count);
    return one;
}

static void
print_xacts_json(const wa_log_xacts *xacts)
{
    WA_CLEANUP(wa_json_freep) json_t *list = json_array();
    for (size_t i = 0; i < xacts->count; i++)
        json_array_append_new(list, xact_json(&xacts->items[i]));
    wa_print_json(list);
}

static wa_status
around(wa_context *ctx, const wa_log_options *options, const char *text, wa_error *err)
{
    wa_time t = WA_TIME_NONE;
    uint64_t each = 10;
    WA_TRY(wa_time_parse(text, wa_time_now(), &t, err));
    const char *count = wa_arg_value(ctx, "count");
    if (count != NULL)
        WA_TRY(wa_parse_u64(count, &each, err));
    if (each == 0 || each > 100000)
        return wa_error_set(err, WA_INVALID, "--count must be between 1 and 100000");
    WA_CLEANUP(wa_log_xacts_done) wa_log_xacts xacts = {0};
    WA_TRY(wa_log_around(options, t, each, &xacts, err));
    if (ctx->json) {
        print_xacts_json(&xacts);
        return WA_OK;
    }
    WA_CLEANUP(wa_table_freep) wa_table *table = wa_table_new(5);
    static const char *const head[] = {"TIME", "XID", "LSN", "",
                                       "RELATIONS (tablespace/database/relfilenode)"};
    for (size_t i = 0; i < WA_ARRAY_SIZE(head); i++)
        wa_table_cell(table, head[i]);
    for (size_t i = 0; i < xacts.count; i++) {
        const wa_log_xact *x = &xacts.items[i];
        char time[WA_TIME_TEXT], lsn[WA_LSN_TEXT];
        WA_CLEANUP(wa_freep) char *xid = wa_format("%u", x->end.xid);
        WA_CLEANUP(wa_freep) char *relations = relations_text(x);
        wa_table_cell(table, time_text(x->end.time, time));
        wa_table_cell(table, xid);
        wa_table_cell(table, wa_lsn_format(x->lsn, lsn));
        wa_table_cell(table, x->end.commit ? "commit" : "abort");
        wa_table_cell(table, relations);
    }
    wa_table_print(table, stdout);
    return WA_OK;
}

static wa_status
find_drop(wa_context *ctx, wa_log_options *options, wa_error *err)
{
    wa_progress progress = {.phase = "reading WAL"};
    WA_CLEANUP(wa_log_xacts_done) wa_log_xacts xacts = {0};
    options->progress = &progress;
    wa_progress_view *view = wa_progress_show(ctx, &progress, "log");
    wa_status status = wa_log_find_drops(options, &xacts, err);
    wa_progress_hide(view);
    WA_TRY(status);
    if (ctx->json) {
        print_xacts_json(&xacts);
        return WA_OK;
    }
    if (xacts.count == 0)
        puts("no transaction dropped or truncated a relation in this time");
    for (size_t i = 0; i < xacts.count; i++) {
        const wa_log_xact *x = &xacts.items[i];
        char time[WA_TIME_TEXT], lsn[WA_LSN_TEXT];
        printf("%s  xid %u at %s dropped or truncated %u files, the first is %u/%u/%u\n",
               time_text(x->end.time, time), x->end.xid, wa_lsn_format(x->lsn, lsn),
               x->end.dropped_count, x->end.dropped[0].spc, x->end.dropped[0].db,
               x->end.dropped[0].rel);
        printf("    the moment before: walagent restore -D DIRECTORY --to-lsn %s --exclusive\n",
               lsn);
    }
    return WA_OK;
}

static wa_status
optional_time(const wa_context *ctx, const char *name, wa_time *ret, wa_error *err)
{
    const char *text = wa_arg_value(ctx, name);
    *ret = WA_TIME_NONE;
    return text == NULL ? WA_OK : wa_time_parse(text, wa_time_now(), ret, err);
}

static wa_status
run(wa_context *ctx, wa_error *err)
{
    wa_log_options options = {.cancel = ctx->cancel};
    WA_TRY(optional_time(ctx, "from", &options.from, err));
    WA_TRY(optional_time(ctx, "to", &options.to, err));
    const char *text = wa_arg_value(ctx, "around");
    if (text != NULL && wa_arg_flag(ctx, "find-drop"))
        return wa_error_set(err, WA_INVALID, "--around and --find-drop exclude each other");
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_TRY(wa_context_repo(ctx, true, &repo, err));
    options.repo = repo;
    if (text != NULL)
        return around(ctx, &options, text, err);
    if (wa_arg_flag(ctx, "find-drop"))
        return find_drop(ctx, &options, err);
    return overview(ctx, &options, err);
}

static const wa_command_option options[] = {
    {"from", 0, WA_ARG_VALUE, "TIME", "From this time on (default: all that is archived)."},
    {"to", 0, WA_ARG_VALUE, "TIME", "Up to this time."},
    {"around", 0, WA_ARG_VALUE, "TIME",
     "List single transactions around this time, with xid, LSN and the relations they touched."},
    {"count", 0, WA_ARG_VALUE, "N", "With --around: how many before and after (default: 10)."},
    {"find-drop", 0, WA_ARG_FLAG, NULL,
     "List the transactions that dropped or truncated a relation, and how to restore to the moment "
     "before each."},
    {"checkpoints", 0, WA_ARG_FLAG, NULL, "Show online checkpoints too."},
    {"json", 0, WA_ARG_FLAG, NULL, "JSON (docs/json.md)."},
    {NULL, 0, WA_ARG_FLAG, NULL, NULL},
};

const wa_command wa_command_log = {
    .name = "log",
    .summary = "what happened when: commits, restore points, forks, holes, drops",
    .options = options,
    .description = "Answers from the archive's WAL along the accepted lineage: commits per "
                   "interval as a bar chart, restore points, shutdowns, timeline forks and holes. "
                   "Times are those of the commit records.\n\n"
                   "--around lists single transactions; --find-drop reads the WAL for transactions "
                   "that dropped or truncated a relation (a rewrite such as VACUUM FULL or CLUSTER "
                   "drops the old file and is "
                   "listed too).",
    .exit_codes = "  0   answered\n  3   damaged WAL\n  4   the repository was not reached in time",
    .example = "  walagent log --from -2h\n  walagent log --around '2026-11-23 02:14:00+00' "
               "--count 5\n  walagent log --find-drop --from -1d",
    .run = run,
};
