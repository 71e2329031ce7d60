/*
 * init.c - walagent init: the repository's cluster entry and the replication slot.
 */
#include "commands_internal.h"

#include "walagent/pg/replication.h"
#include "walagent/store/mirror.h"

#include <inttypes.h>

/* The server's identity, from a host of conninfo that answers. */
static wa_status
identify_server(wa_context *ctx, const wa_config *config, wa_pg_conn **ret_conn, wa_pg_system *ret,
                wa_error *err)
{
    const char *conninfo = wa_config_string(config, "cluster", "conninfo");
    if (wa_str_empty(conninfo)) {
        wa_error_set(err, WA_INVALID, "no server is configured");
        return wa_error_hint(err, "Set conninfo in [cluster], for example \"conninfo = "
                                  "host=/var/run/postgresql user=walagent\".");
    }
    wa_pg_connect_options options = {
        .conninfo = conninfo, .replication = true, .cancel = ctx->cancel};
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *conn = NULL;
    wa_status status = wa_pg_connect(&options, &conn, err);
    if (status == WA_DENIED && err->hint[0] == '\0')
        wa_error_hint(err,
                      "The role needs LOGIN and REPLICATION, and pg_hba.conf a line for it and "
                      "the database \"replication\".");
    WA_TRY(status);
    bool known = false;
    WA_TRY(wa_pg_check_major(conn, &known, err));
    if (!known)
        wa_log(WA_LOG_WARNING,
               "PostgreSQL %d is newer than this version of walagent knows: WAL is archived "
               "without being checked",
               wa_pg_major(conn));
    WA_TRY(wa_pg_identify(conn, ret, err));
    *ret_conn = WA_TAKE(conn);
    return WA_OK;
}

static wa_status
ensure_slot(wa_pg_conn *conn, const char *slot, bool *ret_created, wa_error *err)
{
    wa_pg_slot state;
    WA_TRY(wa_pg_slot_read(conn, slot, &state, err));
    *ret_created = false;
    if (state.exists && !state.physical) {
        wa_error_set(err, WA_CONFLICT, "replication slot \"%s\" is not a physical slot", slot);
        return wa_error_hint(err, "Choose another name for slot in [cluster], or drop the slot.");
    }
    if (state.exists)
        return WA_OK;
    wa_status status = wa_pg_slot_create(conn, slot, err);
    if (status == WA_EXISTS) {
        wa_error_clear(err);
        return WA_OK;
    }
    *ret_created = status == WA_OK;
    return status;
}

static void
warn_of_mirrors(const wa_repo *repo)
{
    wa_store *store = wa_repo_store((wa_repo *)(uintptr_t)repo);
    for (size_t i = 1; i < wa_store_members(store); i++) {
        if (wa_store_mirror_looks_first(store, i))
            wa_log(WA_LOG_WARNING,
                   "the mirror %s has no conditional PUT: it is looked at before each write",
                   wa_store_get_traits(wa_store_member(store, i))->url);
    }
}

static void
report(const wa_context *ctx, const wa_repo *repo, const char *url, bool created, const char *slot,
       bool slot_created)
{
    const wa_cluster *c = wa_repo_cluster(repo);
    if (ctx->json) {
        WA_CLEANUP(wa_json_freep) json_t *json = json_object();
        wa_json_set_string(json, "cluster", wa_repo_cluster_name(repo));
        wa_json_set_string(json, "repository", url);
        WA_CLEANUP(wa_freep) char *system = wa_format("%" PRIu64, c->system_identifier);
        wa_json_set_string(json, "system_identifier", system);
        wa_json_set_i64(json, "major", c->major);
        wa_json_set_u64(json, "segment_size", c->segment_size);
        wa_json_set_u64(json, "incarnation", c->incarnation);
        wa_json_set_bool(json, "single_writer", c->single_writer);
        wa_json_set_bool(json, "created", created);
        wa_json_set_string(json, "slot", slot);
        wa_json_set_bool(json, "slot_created", slot_created);
        wa_print_json(json);
        return;
    }
    if (ctx->quiet)
        return;
    char size[WA_SIZE_TEXT];
    printf("cluster \"%s\" %s %s\n", wa_repo_cluster_name(repo),
           created ? "created in" : "checked in", url);
    printf("  system identifier %" PRIu64 ", PostgreSQL %d, WAL segments of %s\n",
           c->system_identifier, c->major, wa_format_size(c->segment_size, size));
    if (c->single_writer)
        puts("  the store has no conditional PUT: one agent only, no synchronous mode");
    if (slot != NULL)
        printf("  replication slot \"%s\" %s\n", slot, slot_created ? "created" : "is there");
}

static wa_status
run(wa_context *ctx, wa_error *err)
{
    const wa_config *config = NULL;
    WA_TRY(wa_context_config(ctx, &config, err));
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *conn = NULL;
    wa_pg_system system;
    WA_TRY(identify_server(ctx, config, &conn, &system, err));
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_TRY(wa_context_repo(ctx, WA_REPO_WRITE, false, &repo, err));
    wa_cluster identity = {.system_identifier = system.system_identifier,
                           .major = system.major,
                           .segment_size = system.segment_size,
                           .since = wa_time_now()};
    bool created = false, slot_created = false;
    wa_status status =
        wa_repo_init(repo, &identity, wa_arg_flag(ctx, "accept-new-cluster"), &created, err);
    if (status == WA_CONFLICT && err->hint[0] == '\0')
        wa_error_hint(err,
                      "After pg_upgrade, or when the new cluster is meant, run \"walagent init "
                      "--accept-new-cluster\"; otherwise choose another name in [cluster].");
    WA_TRY(status);
    warn_of_mirrors(repo);
    const char *slot =
        wa_arg_flag(ctx, "no-slot") ? NULL : wa_config_string(config, "cluster", "slot");
    if (slot != NULL)
        WA_TRY(ensure_slot(conn, slot, &slot_created, err));
    report(ctx, repo, wa_config_string(config, "repository", "url"), created, slot, slot_created);
    return WA_OK;
}

static const wa_command_option options[] = {
    {"accept-new-cluster", 0, WA_ARG_FLAG, NULL,
     "Accept a server with another system identifier, major version or segment size under this "
     "name (after pg_upgrade): the history so far stays, a new incarnation begins."},
    {"no-slot", 0, WA_ARG_FLAG, NULL, "Do not create the replication slot."},
    {"json", 0, WA_ARG_FLAG, NULL, "Answer in JSON."},
    {NULL, 0, WA_ARG_FLAG, NULL, NULL},
};

const wa_command wa_command_init = {
    .name = "init",
    .summary = "create the cluster's entry in the repository and the replication slot",
    .options = options,
    .description =
        "Asks the server of [cluster] conninfo for its identity (system identifier, major version, "
        "WAL segment size), creates the cluster's entry in the repository, "
        "finds out whether the store honours conditional writes, and creates the physical "
        "replication slot.\n\n"
        "Run again it checks all of this and changes nothing.",
    .example = "  walagent init\n  walagent init -c /etc/walagent/main.conf --json",
    .run = run,
};
