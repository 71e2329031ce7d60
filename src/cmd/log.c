/*
 * log.c - walagent log: what happened when.
 */
#include "commands_internal.h"
#include "log_internal.h"

#include <string.h>
#include <unistd.h>

#define BARS 24
#define BAR_WIDTH 40
#define FEW 20

const char *
wa_log_time_text(wa_time t, char out[static WA_TIME_TEXT])
{
    return t == WA_TIME_NONE ? "-" : wa_time_format(t, out);
}

void
wa_log_set_time(json_t *obj, const char *key, wa_time t)
{
    char text[WA_TIME_TEXT];
    wa_json_set_string(obj, key, t == WA_TIME_NONE ? NULL : wa_time_format_rfc3339(t, text));
}

void
wa_log_set_lsn(json_t *obj, const char *key, wa_lsn lsn)
{
    char text[WA_LSN_TEXT];
    wa_json_set_string(obj, key, lsn == 0 ? NULL : wa_lsn_format(lsn, text));
}

static const char *
moment_name(wa_moment_kind kind)
{
    switch (kind) {
    case WA_MOMENT_RESTORE_POINT:
        return "restore point";
    case WA_MOMENT_CHECKPOINT:
        return "checkpoint";
    case WA_MOMENT_SWITCH:
        return "switch";
    case WA_MOMENT_FORK:
        return "fork";
    case WA_MOMENT_HOLE:
        return "hole";
    case WA_MOMENT_DAMAGE:
        return "damage";
    }
    return "?";
}

/* Online checkpoints and switches come by the thousand: a terminal shows them when they are few or
 * asked for. */
typedef struct routine {
    uint64_t checkpoints, switches;
    bool show_checkpoints, show_switches;
} routine;

static bool
is_online_checkpoint(const wa_moment *m)
{
    return m->kind == WA_MOMENT_CHECKPOINT && strcmp(m->text, "shutdown") != 0;
}

static routine
find_routine(const wa_context *ctx, const wa_log_overview *o)
{
    routine r = {0};
    for (size_t i = 0; i < o->moment_count; i++) {
        r.checkpoints += is_online_checkpoint(&o->moments[i]);
        r.switches += o->moments[i].kind == WA_MOMENT_SWITCH;
    }
    r.show_checkpoints = r.checkpoints <= FEW || wa_arg_flag(ctx, "checkpoints");
    r.show_switches = r.switches <= FEW || wa_arg_flag(ctx, "switches");
    return r;
}

static void
print_bars(const wa_log_overview *o, bool with_lsn)
{
    uint64_t most = 1;
    for (size_t i = 0; i < o->count; i++)
        most = o->intervals[i].commits > most ? o->intervals[i].commits : most;
    for (size_t i = 0; i < o->count; i++) {
        const wa_log_interval *one = &o->intervals[i];
        char text[WA_TIME_TEXT], bar[BAR_WIDTH + 1], lsn[WA_LSN_TEXT];
        size_t width = (size_t)((double)one->commits / (double)most * BAR_WIDTH);
        if (width == 0 && one->commits > 0)
            width = 1;
        memset(bar, '#', width);
        bar[width] = '\0';
        printf("%-30s", wa_log_time_text(o->begin + (int64_t)i * o->interval_us, text));
        if (with_lsn)
            printf(" %-18s", one->begin_lsn != 0 ? wa_lsn_format(one->begin_lsn, lsn) : "-");
        printf(" %c%7llu%s%s\n", one->uncertain > 0 ? '~' : ' ', (unsigned long long)one->commits,
               width > 0 ? " " : "", bar);
    }
}

static char *
moment_text(const wa_moment *m)
{
    char lsn[WA_LSN_TEXT];
    wa_lsn_format(m->end_lsn, lsn);
    switch (m->kind) {
    case WA_MOMENT_HOLE:
        return wa_format("up to %s", lsn);
    case WA_MOMENT_DAMAGE:
        return wa_format("up to %s: %s", lsn, m->text);
    case WA_MOMENT_SWITCH:
        return wa_format("on to %s", lsn);
    case WA_MOMENT_FORK:
        return wa_format("to branch %s", m->text);
    case WA_MOMENT_RESTORE_POINT:
    case WA_MOMENT_CHECKPOINT:
        break;
    }
    return wa_strdup(m->text);
}

static void
print_moments(const routine *r, const wa_log_overview *o)
{
    WA_CLEANUP(wa_table_freep) wa_table *t = wa_table_new(4);
    for (size_t i = 0; i < o->moment_count; i++) {
        const wa_moment *m = &o->moments[i];
        char time[WA_TIME_TEXT], lsn[WA_LSN_TEXT];
        if ((is_online_checkpoint(m) && !r->show_checkpoints) ||
            (m->kind == WA_MOMENT_SWITCH && !r->show_switches))
            continue;
        WA_CLEANUP(wa_freep) char *text = moment_text(m);
        wa_table_cell(t, wa_log_time_text(m->time, time));
        wa_table_cell(t, wa_lsn_format(m->lsn, lsn));
        wa_table_cell(t, moment_name(m->kind));
        wa_table_cell(t, text);
    }
    wa_table_print(t, stdout);
    if (!r->show_checkpoints)
        printf("%llu online checkpoints are not shown (--checkpoints)\n",
               (unsigned long long)r->checkpoints);
    if (!r->show_switches)
        printf("%llu switches are not shown (--switches)\n", (unsigned long long)r->switches);
}

/* How far the answer from sums goes. */
static void
print_sums(const wa_log_overview *o)
{
    uint64_t most = 0;
    for (size_t i = 0; i < o->count; i++)
        most = o->intervals[i].uncertain > most ? o->intervals[i].uncertain : most;
    if (most > 0)
        printf(
            "this is much WAL, so lines marked ~ are made from sums: up to %llu transactions may "
            "belong to the line before or behind\n",
            (unsigned long long)most);
    puts("checkpoints and switches are left out; --from and --to show a part exactly");
}

static void
print_overview(const wa_context *ctx, const wa_log_overview *o)
{
    char first[WA_TIME_TEXT], last[WA_TIME_TEXT], every[WA_SIZE_TEXT];
    routine r = find_routine(ctx, o);
    if (o->first == WA_TIME_NONE) {
        puts("no transaction ended in this time");
    } else {
        printf("%llu commits and %llu aborts from %s to %s; a line is %s\n",
               (unsigned long long)o->total_commits, (unsigned long long)o->total_aborts,
               wa_log_time_text(o->first, first), wa_log_time_text(o->last, last),
               o->interval_us < 1000
                   ? "less than 1 ms"
                   : wa_format_duration_ms((uint64_t)o->interval_us / 1000, every));
        print_bars(o, wa_arg_flag(ctx, "lsn"));
    }
    if (o->from_sums)
        print_sums(o);
    print_moments(&r, o);
}

static json_t *
overview_json(const wa_log_overview *o)
{
    json_t *json = json_object(), *bars = json_array(), *moments = json_array();
    wa_json_set_u64(json, "commits", o->total_commits);
    wa_json_set_u64(json, "aborts", o->total_aborts);
    wa_log_set_time(json, "first", o->first);
    wa_log_set_time(json, "last", o->last);
    for (size_t i = 0; i < o->count; i++) {
        json_t *one = json_object();
        wa_log_set_time(one, "from", o->begin + (int64_t)i * o->interval_us);
        wa_log_set_time(one, "to", o->begin + (int64_t)(i + 1) * o->interval_us);
        wa_json_set_u64(one, "commits", o->intervals[i].commits);
        wa_json_set_u64(one, "aborts", o->intervals[i].aborts);
        wa_log_set_lsn(one, "begin_lsn", o->intervals[i].begin_lsn);
        wa_log_set_lsn(one, "end_lsn", o->intervals[i].end_lsn);
        wa_json_set_u64(one, "uncertain", o->intervals[i].uncertain);
        json_array_append_new(bars, one);
    }
    for (size_t i = 0; i < o->moment_count; i++) {
        json_t *one = json_object();
        wa_json_set_string(one, "kind", moment_name(o->moments[i].kind));
        wa_log_set_time(one, "time", o->moments[i].time);
        wa_log_set_lsn(one, "lsn", o->moments[i].lsn);
        wa_log_set_lsn(one, "end_lsn", o->moments[i].end_lsn);
        wa_json_set_string(one, "text", o->moments[i].text);
        json_array_append_new(moments, one);
    }
    wa_json_set_bool(json, "from_sums", o->from_sums);
    wa_json_set(json, "intervals", bars);
    wa_json_set(json, "moments", moments);
    return json;
}

static wa_status
overview(wa_context *ctx, const wa_log_options *options, wa_error *err)
{
    WA_CLEANUP(wa_log_overview_done) wa_log_overview o = {0};
    WA_TRY(wa_log_overview_load(options, BARS, &o, err));
    for (size_t i = 0; i < o.moment_count; i++)
        if (o.moments[i].kind == WA_MOMENT_DAMAGE)
            ctx->exit_code = 3;
    if (!ctx->json) {
        print_overview(ctx, &o);
        return WA_OK;
    }
    WA_CLEANUP(wa_json_freep) json_t *json = overview_json(&o);
    wa_print_json(json);
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
    if (text != NULL && (options.from != WA_TIME_NONE || options.to != WA_TIME_NONE))
        return wa_error_set(err, WA_INVALID, "--around excludes --from and --to");
    if (options.from != WA_TIME_NONE && options.to != WA_TIME_NONE && options.from > options.to)
        return wa_error_set(err, WA_INVALID, "--from is later than --to");
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_TRY(wa_context_repo(ctx, WA_REPO_READ, true, &repo, err));
    options.repo = repo;
    wa_status status = text != NULL ? wa_log_command_around(ctx, &options, text, err)
                       : wa_arg_flag(ctx, "find-drop") ? wa_log_command_drops(ctx, &options, err)
                                                       : overview(ctx, &options, err);
    wa_tell_of_mirrors(repo);
    return status;
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
    {"lsn", 0, WA_ARG_FLAG, NULL,
     "Show at which LSN each interval's transactions begin (as exact as a segment)."},
    {"checkpoints", 0, WA_ARG_FLAG, NULL, "Show online checkpoints, however many there are."},
    {"switches", 0, WA_ARG_FLAG, NULL, "Show WAL switches, however many there are."},
    {"json", 0, WA_ARG_FLAG, NULL, "JSON (docs/json.md)."},
    WA_OPTION_REPOSITORY,
    {NULL, 0, WA_ARG_FLAG, NULL, NULL},
};

const wa_command wa_command_log = {
    .name = "log",
    .summary = "what happened when: commits, restore points, forks, holes, drops",
    .options = options,
    .description =
        "Answers from the archive's WAL along the accepted lineage: commits per interval as a bar "
        "chart, restore points, checkpoints, WAL switches, timeline forks and holes. Times are "
        "those of the commit records: a transaction counts where its time says. Over more than "
        "16,384 segments lines are made from sums and marked ~; the totals are exact all the same, "
        "and --from and --to show a part exactly.\n\n"
        "--around lists the first transaction that ended at or after a time, with its neighbours "
        "in WAL order and the relations that they changed (as tablespace/database/relfilenode, the "
        "name of a file in the data directory).\n\n"
        "--find-drop reads the WAL for transactions that dropped or truncated a relation or "
        "dropped a database, and prints how to restore to the moment before. What replaces a "
        "relation's file (VACUUM FULL, CLUSTER, REINDEX, some forms of ALTER TABLE) drops the old "
        "one and is listed too.\n\n"
        "WAL that is damaged is named, and the rest is read nevertheless.",
    .exit_codes = "  0   answered\n  3   answered, and some WAL could not be read\n  4   the "
                  "repository was not reached in time",
    .example = "  walagent log --from -2h\n  walagent log --around '2026-11-23 02:14:00+00' "
               "--count 5\n  walagent log --find-drop --from -1d",
    .run = run,
};
