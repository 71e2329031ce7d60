/*
 * log_list.c - single transactions: around a time, and those that dropped something.
 */
#include "log_internal.h"

#include "walagent/pg/recovery.h"

#include <string.h>

#define COUNT_MAX 10000
#define SHOWN_FILES 4u

static char *
relation_text(uint32_t spc, uint32_t db, uint32_t rel)
{
    return wa_format("%u/%u/%u", spc, db, rel);
}

/* "1663/16384/2619 1663/16384/1259 and more": tablespace, database and relfilenode, as in the data
 * directory. */
static char *
relations_text(const wa_log_xact *x)
{
    WA_CLEANUP(wa_buf_done) wa_buf out = WA_BUF_INIT(4096);
    for (size_t i = 0; i < x->relation_count && i < WA_XACT_RELATIONS; i++)
        wa_buf_printf(&out, "%s%u/%u/%u", i > 0 ? " " : "", x->relations[i].spc, x->relations[i].db,
                      x->relations[i].rel);
    if (x->relation_count > WA_XACT_RELATIONS)
        wa_buf_printf(&out, " and more");
    return wa_buf_detach(&out);
}

/* The command line that goes to the moment before. */
static char *
restore_text(const wa_context *ctx, const wa_log_xact *x)
{
    char lsn[WA_LSN_TEXT];
    const char *config = wa_arg_value(ctx, "config");
    WA_CLEANUP(wa_freep) char *quoted = config != NULL ? wa_shell_quote(config) : NULL;
    return wa_format("walagent restore%s%s -D DIRECTORY --to-lsn %s --exclusive",
                     quoted != NULL ? " -c " : "", quoted != NULL ? quoted : "",
                     wa_lsn_format(x->restore_lsn, lsn));
}

static void
append_text(json_t *list, char *taken)
{
    wa_json_add_string(list, taken);
    wa_freep(&taken);
}

static json_t *
xact_json(const wa_log_xact *x)
{
    char branch[WA_BRANCH_TEXT];
    json_t *one = json_object(), *relations = json_array();
    wa_json_set_string(one, "kind", x->end.commit ? "commit" : "abort");
    wa_json_set_bool(one, "prepared", x->end.prepared);
    wa_json_set_u64(one, "xid", x->end.xid);
    wa_log_set_time(one, "time", x->end.time);
    wa_log_set_lsn(one, "lsn", x->lsn);
    wa_log_set_lsn(one, "end_lsn", x->end_lsn);
    wa_json_set_string(one, "branch", wa_branch_format(&x->branch, branch));
    for (size_t i = 0; i < x->relation_count && i < WA_XACT_RELATIONS; i++)
        append_text(relations,
                    relation_text(x->relations[i].spc, x->relations[i].db, x->relations[i].rel));
    wa_json_set(one, "relations", relations);
    wa_json_set_bool(one, "more_relations", x->relation_count > WA_XACT_RELATIONS);
    return one;
}

static json_t *
drop_json(const wa_context *ctx, const wa_log_xact *x)
{
    json_t *one = xact_json(x), *dropped = json_array();
    for (size_t i = 0; i < x->end.dropped_count && i < WA_ARRAY_SIZE(x->end.dropped); i++)
        append_text(dropped, relation_text(x->end.dropped[i].spc, x->end.dropped[i].db,
                                           x->end.dropped[i].rel));
    WA_CLEANUP(wa_freep) char *restore = restore_text(ctx, x);
    wa_json_set(one, "dropped", dropped);
    wa_json_set_u64(one, "dropped_count", x->end.dropped_count);
    if (x->dropped_database != 0)
        wa_json_set_u64(one, "dropped_database", x->dropped_database);
    wa_log_set_lsn(one, "restore_lsn", x->restore_lsn);
    wa_json_set_string(one, "restore", restore);
    return one;
}

static json_t *
damage_json(const wa_log_xacts *xacts)
{
    json_t *list = json_array();
    for (size_t i = 0; i < xacts->damage_count; i++) {
        json_t *one = json_object();
        wa_log_set_lsn(one, "lsn", xacts->damage[i].begin);
        wa_log_set_lsn(one, "end_lsn", xacts->damage[i].end);
        wa_json_set_string(one, "text", xacts->damage[i].text);
        json_array_append_new(list, one);
    }
    return list;
}

static void
print_json(const wa_context *ctx, const wa_log_xacts *xacts, bool drops)
{
    WA_CLEANUP(wa_json_freep) json_t *json = json_object();
    json_t *list = json_array();
    for (size_t i = 0; i < xacts->count; i++)
        json_array_append_new(list, drops ? drop_json(ctx, &xacts->items[i])
                                          : xact_json(&xacts->items[i]));
    wa_json_set(json, "transactions", list);
    wa_json_set(json, "damage", damage_json(xacts));
    wa_print_json(json);
}

/* What could not be read: on stderr, and in the exit code. */
static void
report_damage(wa_context *ctx, const wa_log_xacts *xacts)
{
    for (size_t i = 0; i < xacts->damage_count; i++) {
        char begin[WA_LSN_TEXT], end[WA_LSN_TEXT];
        wa_log(WA_LOG_WARNING, "WAL from %s to %s could not be read: %s",
               wa_lsn_format(xacts->damage[i].begin, begin),
               wa_lsn_format(xacts->damage[i].end, end), xacts->damage[i].text);
        ctx->exit_code = 3;
    }
}

static void
print_around(const wa_log_xacts *xacts)
{
    static const char *const head[] = {"TIME", "XID", "LSN", "",
                                       "RELATIONS (tablespace/database/relfilenode)"};
    WA_CLEANUP(wa_table_freep) wa_table *table = wa_table_new(5);
    for (size_t i = 0; i < WA_ARRAY_SIZE(head); i++)
        wa_table_cell(table, head[i]);
    for (size_t i = 0; i < xacts->count; i++) {
        const wa_log_xact *x = &xacts->items[i];
        char time[WA_TIME_TEXT], lsn[WA_LSN_TEXT];
        WA_CLEANUP(wa_freep) char *xid = wa_format("%u", x->end.xid);
        WA_CLEANUP(wa_freep) char *relations = relations_text(x);
        wa_table_cell(table, wa_log_time_text(x->end.time, time));
        wa_table_cell(table, xid);
        wa_table_cell(table, wa_lsn_format(x->lsn, lsn));
        wa_table_cell(table, x->end.commit ? "commit" : "abort");
        wa_table_cell(table, relations);
    }
    if (xacts->count > 0)
        wa_table_print(table, stdout);
    else
        puts("no transaction is archived");
}

wa_status
wa_log_command_around(wa_context *ctx, const wa_log_options *options, const char *time,
                      wa_error *err)
{
    wa_time t = WA_TIME_NONE;
    uint64_t each = 10;
    WA_TRY(wa_time_parse(time, wa_time_now(), &t, err));
    const char *count = wa_arg_value(ctx, "count");
    if (count != NULL)
        WA_TRY(wa_parse_u64(count, &each, err));
    if (each == 0 || each > COUNT_MAX)
        return wa_error_set(err, WA_INVALID, "--count must be between 1 and %d", COUNT_MAX);
    WA_CLEANUP(wa_log_xacts_done) wa_log_xacts xacts = {0};
    WA_TRY(wa_log_around(options, t, each, &xacts, err));
    if (ctx->json)
        print_json(ctx, &xacts, false);
    else
        print_around(&xacts);
    report_damage(ctx, &xacts);
    return WA_OK;
}

static void
print_drop(const wa_context *ctx, const wa_log_xact *x)
{
    char time[WA_TIME_TEXT], lsn[WA_LSN_TEXT];
    WA_CLEANUP(wa_freep) char *restore = restore_text(ctx, x);
    printf("%s  xid %u at %s dropped or truncated ", wa_log_time_text(x->end.time, time),
           x->end.xid, wa_lsn_format(x->lsn, lsn));
    if (x->dropped_database != 0)
        printf("database %u%s", x->dropped_database, x->end.dropped_count > 0 ? " and " : "");
    for (uint32_t i = 0; i < x->end.dropped_count && i < SHOWN_FILES; i++)
        printf("%s%u/%u/%u", i > 0 ? " " : "", x->end.dropped[i].spc, x->end.dropped[i].db,
               x->end.dropped[i].rel);
    if (x->end.dropped_count > SHOWN_FILES)
        printf(" and %u more", x->end.dropped_count - SHOWN_FILES);
    printf("\n    the moment before: %s\n", restore);
}

wa_status
wa_log_command_drops(wa_context *ctx, wa_log_options *options, wa_error *err)
{
    wa_progress progress = {.phase = "reading WAL"};
    WA_CLEANUP(wa_log_xacts_done) wa_log_xacts xacts = {0};
    options->progress = &progress;
    wa_progress_view *view = wa_progress_show(ctx, &progress, "log");
    wa_status status = wa_log_find_drops(options, &xacts, err);
    wa_progress_hide(view);
    options->progress = NULL;
    WA_TRY(status);
    if (ctx->json)
        print_json(ctx, &xacts, true);
    for (size_t i = 0; !ctx->json && i < xacts.count; i++)
        print_drop(ctx, &xacts.items[i]);
    if (!ctx->json && xacts.count == 0)
        puts("no transaction dropped or truncated anything in this time");
    report_damage(ctx, &xacts);
    return WA_OK;
}
