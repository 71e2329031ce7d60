/*
 * restore/settings.c - what makes the laid down files a replica or a copy at a point in time:
 * postgresql.auto.conf, the signal file, and the chain that archive-get serves along.
 *
 * pg_wal/walagent.restore.json:
 *   {"v":1,"cluster":NAME,"system_identifier":"N","backup":LABEL,
 *    "chain":[{"branch":"<TLI8>-<id8>","begin":"X/X","end":"X/X"|null}, ...],
 *    "target":"latest"|{"lsn":"X/X","inclusive":bool}|{"end":"X/X"}|{"immediate":true}|
 *             {"by_server":true,"inclusive":bool},
 *    "standby":bool,"restored":TIME}
 */
#include "restore_internal.h"

#include "walagent/base/file.h"
#include "walagent/base/log.h"
#include "walagent/pg/conn.h"
#include "walagent/pg/recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static void
add_pair(wa_strv *pairs, const char *name, const char *value)
{
    wa_strv_add(pairs, name);
    wa_strv_add(pairs, value);
}

/* A password in a file of the data directory would end up in every later backup. */
static wa_status
add_conninfo(const wa_restore_options *o, wa_strv *pairs, wa_error *err)
{
    if (wa_str_empty(o->primary_conninfo))
        return WA_OK;
    WA_CLEANUP(wa_freep) char *public = NULL;
    WA_TRY(wa_pg_conninfo_public(o->primary_conninfo, &public, err));
    add_pair(pairs, "primary_conninfo", public);
    return WA_OK;
}

static bool
conninfo_has_password(const char *conninfo)
{
    char *message = NULL;
    PQconninfoOption *parsed = PQconninfoParse(conninfo, &message);
    bool has = false;
    for (PQconninfoOption *p = parsed; p != NULL && p->keyword != NULL; p++)
        has = has || (strcmp(p->keyword, "password") == 0 && !wa_str_empty(p->val));
    PQconninfoFree(parsed);
    PQfreemem(message);
    return has;
}

static const char *
action_name(wa_target_action action)
{
    switch (action) {
    case WA_ACTION_PAUSE:
        return "pause";
    case WA_ACTION_SHUTDOWN:
        return "shutdown";
    case WA_ACTION_DEFAULT:
    case WA_ACTION_PROMOTE:
    default:
        return "promote";
    }
}

/* The target as it was given; the server knows what it means. */
static void
add_given_target(const wa_restore_options *o, wa_strv *pairs)
{
    char text[WA_TIME_TEXT];
    WA_ASSERT(o->kind == WA_TARGET_TIME || o->kind == WA_TARGET_XID || o->kind == WA_TARGET_NAME);
    if (o->kind == WA_TARGET_TIME) {
        add_pair(pairs, "recovery_target_time", wa_time_format(o->time, text));
    } else if (o->kind == WA_TARGET_XID) {
        snprintf(text, sizeof text, "%u", (uint32_t)o->xid);
        add_pair(pairs, "recovery_target_xid", text);
    } else {
        add_pair(pairs, "recovery_target_name", o->name);
    }
}

static void
add_target(const wa_restore_options *o, const wa_restore_plan *plan, wa_strv *pairs)
{
    char text[WA_LSN_TEXT];
    if (o->kind == WA_TARGET_CONSISTENT) {
        add_pair(pairs, "recovery_target", "immediate");
    } else if (plan->has_target && !plan->end_of_archive) {
        if (plan->target_lsn == 0)
            add_given_target(o, pairs);
        else
            add_pair(pairs, "recovery_target_lsn", wa_lsn_format(plan->target_lsn, text));
        add_pair(pairs, "recovery_target_inclusive", plan->target_inclusive ? "on" : "off");
    }
    if (o->kind == WA_TARGET_CONSISTENT || plan->has_target)
        add_pair(pairs, "recovery_target_action", action_name(o->action));
}

static void
add_recovery(const wa_restore_options *o, const wa_restore_plan *plan, wa_strv *pairs)
{
    char tli[16];
    add_pair(pairs, "restore_command", o->restore_command);
    if (o->standby) {
        add_pair(pairs, "recovery_target_timeline", "latest");
        add_pair(pairs, "wal_retrieve_retry_interval", "500ms");
        if (!wa_str_empty(o->primary_slot))
            add_pair(pairs, "primary_slot_name", o->primary_slot);
        return;
    }
    /* By number, so that a timeline that appears meanwhile changes nothing. */
    snprintf(tli, sizeof tli, "%u", plan->branch.tli);
    add_pair(pairs, "recovery_target_timeline", tli);
    add_target(o, plan, pairs);
    if (!o->keep_archiving)
        add_pair(pairs, "archive_mode", "off");
}

static wa_status
collect(const wa_restore_options *o, const wa_restore_plan *plan, wa_strv *pairs, wa_error *err)
{
    if (!o->no_recovery)
        add_recovery(o, plan, pairs);
    if (o->standby)
        WA_TRY(add_conninfo(o, pairs, err));
    for (size_t i = 0; o->settings != NULL && i < o->settings->count; i++) {
        const char *equals = strchr(o->settings->items[i], '=');
        WA_ASSERT(equals != NULL);
        WA_CLEANUP(wa_freep)
        char *name = wa_strndup(o->settings->items[i], (size_t)(equals - o->settings->items[i]));
        add_pair(pairs, name, equals + 1);
    }
    return WA_OK;
}

wa_status
wa_restore_check_settings(const wa_restore_options *o, wa_error *err)
{
    if (o->standby && !wa_str_empty(o->primary_conninfo) &&
        conninfo_has_password(o->primary_conninfo))
        wa_say(&o->listener, WA_LOG_WARNING,
               "Put it into the password file of the server's user (~/.pgpass), or name "
               "one: passfile=FILE.",
               "the password of --primary-conninfo is not written into the data directory");
    for (size_t i = 0; o->settings != NULL && i < o->settings->count; i++) {
        const char *equals = strchr(o->settings->items[i], '=');
        if (equals == NULL)
            return wa_error_set(err, WA_INVALID, "\"%s\" is no setting: write NAME=VALUE",
                                o->settings->items[i]);
        WA_CLEANUP(wa_freep)
        char *name = wa_strndup(o->settings->items[i], (size_t)(equals - o->settings->items[i]));
        WA_CLEANUP(wa_freep) char *line = NULL;
        WA_TRY(wa_setting_line(name, equals + 1, &line, err));
        if (strncasecmp(name, "recovery_target", strlen("recovery_target")) == 0)
            return wa_error_set(err, WA_INVALID, "\"%s\" follows from the target and can't be set",
                                name);
    }
    return WA_OK;
}

/* ---- the chain ---- */

static json_t *
chain_to_json(const wa_restore_options *o, const wa_restore_plan *plan)
{
    /* Nothing behind the chain's end may be replayed: a fork's other side, or what came later. */
    char text[WA_LSN_TEXT], branch[WA_BRANCH_TEXT];
    json_t *chain = json_array();
    const wa_lineage *l = plan->lineage;
    for (size_t i = 0; i < l->count; i++) {
        const wa_lineage_step *step = &l->steps[i];
        json_t *one = json_object();
        wa_json_set_string(one, "branch", wa_branch_format(&step->branch, branch));
        wa_json_set_string(one, "begin", wa_lsn_format(step->begin, text));
        wa_lsn end = i + 1 < l->count ? l->steps[i + 1].begin : o->standby ? 0 : plan->chain_end;
        wa_json_set_string(one, "end", end == 0 ? NULL : wa_lsn_format(end, text));
        json_array_append_new(chain, one);
    }
    return chain;
}

static json_t *
target_to_json(const wa_restore_options *o, const wa_restore_plan *plan)
{
    char text[WA_LSN_TEXT];
    if (o->kind == WA_TARGET_CONSISTENT)
        return json_pack("{s:b}", "immediate", 1);
    if (!plan->has_target)
        return json_string(
            wa_str_empty(o->timeline) || wa_str_eq(o->timeline, "latest") ? "latest" : "timeline");
    if (plan->end_of_archive)
        return json_pack("{s:s}", "end", wa_lsn_format(plan->wal_to, text));
    if (plan->target_lsn == 0)
        return json_pack("{s:b,s:b}", "by_server", 1, "inclusive", plan->target_inclusive);
    return json_pack("{s:s,s:b}", "lsn", wa_lsn_format(plan->target_lsn, text), "inclusive",
                     plan->target_inclusive);
}

static wa_status
write_chain(const wa_restore_options *o, const wa_restore_plan *plan, const char *root,
            wa_error *err)
{
    char time[WA_TIME_TEXT];
    WA_CLEANUP(wa_json_freep) json_t *json = json_object();
    WA_CLEANUP(wa_freep)
    char *system =
        wa_format("%llu", (unsigned long long)wa_repo_cluster(o->repo)->system_identifier);
    wa_json_set_i64(json, "v", 1);
    wa_json_set_string(json, "cluster", wa_repo_cluster_name(o->repo));
    wa_json_set_string(json, "system_identifier", system);
    wa_json_set_string(json, "backup", plan->backup->label);
    wa_json_set(json, "chain", chain_to_json(o, plan));
    wa_json_set(json, "target", target_to_json(o, plan));
    wa_json_set_bool(json, "standby", o->standby);
    wa_json_set_string(json, "restored", wa_time_format_rfc3339(wa_time_now(), time));
    WA_CLEANUP(wa_freep) char *text = wa_json_dump(json, 2);
    WA_CLEANUP(wa_freep) char *path = wa_path_join(root, WA_RESTORE_FILE);
    WA_CLEANUP(wa_freep) char *dir = wa_path_dir(path);
    WA_TRY(wa_mkdir_p(dir, 0700, err));
    return wa_file_write(path, text, strlen(text), 0600, WA_WRITE_REPLACE, err);
}

/* A backup of a standby brings its standby.signal, which would win over recovery.signal. */
static wa_status
write_signal(const char *root, const char *name, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *inherited = wa_path_join(root, "standby.signal");
    if (unlink(inherited) != 0 && errno != ENOENT)
        return wa_error_errno(err, errno, "could not remove file \"%s\": %m", inherited);
    WA_CLEANUP(wa_freep) char *path = wa_path_join(root, name);
    return wa_file_write(path, "", 0, 0600, WA_WRITE_REPLACE, err);
}

wa_status
wa_restore_write_settings(const wa_restore_options *o, const wa_restore_plan *plan,
                          const char *root, wa_error *err)
{
    WA_CLEANUP(wa_strv_done) wa_strv pairs = {0};
    WA_TRY(collect(o, plan, &pairs, err));
    if (pairs.count > 0 || !o->no_recovery)
        WA_TRY(wa_settings_write(root, &pairs, err));
    if (o->no_recovery)
        return WA_OK;
    WA_TRY(write_chain(o, plan, root, err));
    return write_signal(root, o->standby ? "standby.signal" : "recovery.signal", err);
}
