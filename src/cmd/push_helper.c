/*
 * push_helper.c - what archive-push leaves behind where no agent runs and more segments are ready:
 * the agent's hook server alone, on a socket below PGDATA. It archives what is ready ahead, as the
 * agent does, and answers the front's next calls from that.
 *
 * It ends by itself: when nobody asked for anything in IDLE_MS, or in ORPHAN_MS once the server is
 * gone. Killed at any moment it loses nothing: what it hasn't answered is pushed by the call
 * itself.
 */
#include "commands_internal.h"

#include "walagent/agent/hook_server.h"
#include "walagent/base/file.h"
#include "walagent/base/hook.h"
#include "walagent/wal/push.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define IDLE_MS 60000
#define ORPHAN_MS 3000
#define TICK_MS 500
#define GRACE_MS 10000

typedef struct helper {
    const wa_config *config;
    wa_repo *repo;
} helper;

static wa_repo *
helper_repo(void *arg, char *reason, size_t reason_size)
{
    (void)reason;
    (void)reason_size;
    return ((helper *)arg)->repo;
}

static wa_status
helper_open_repo(void *arg, wa_cancel *cancel, wa_repo **ret, wa_error *err)
{
    return wa_open_repo(((helper *)arg)->config, NULL, 0, cancel, WA_REPO_WRITE, ret, err);
}

/* There is no streamer here. */
static bool
helper_knows(void *arg, const char *name, char ret_xxh3[static WA_XXH_HEX], wa_branch *ret_branch)
{
    (void)arg;
    (void)name;
    (void)ret_branch;
    ret_xxh3[0] = '\0';
    return false;
}

static wa_ships
helper_ships(void *arg, const char *name)
{
    (void)arg;
    (void)name;
    return WA_SHIPS_NOT;
}

static void
helper_limits(void *arg, wa_hook_limits *ret)
{
    const wa_config *c = ((helper *)arg)->config;
    *ret = (wa_hook_limits){.get_timeout_ms = wa_config_duration_ms(c, "archive", "get_timeout"),
                            .pitr_timeout_ms = wa_config_duration_ms(c, "archive", "pitr_timeout"),
                            .stop_on_damage =
                                wa_str_eq(wa_config_string(c, "archive", "on_damage"), "stop")};
}

static char *
helper_status(void *arg)
{
    (void)arg;
    return wa_strdup("{}");
}

/* PGDATA is where the server runs archive_command. NULL: this is no call of a server's. */
static char *
helper_socket(const wa_config *config, const char *path, char **ret_data_dir, char **ret_path)
{
    WA_CLEANUP(wa_freep) char *here = getcwd(NULL, 0);
    WA_CLEANUP(wa_freep) char *resolved = realpath(path, NULL);
    if (here == NULL || resolved == NULL)
        return NULL;
    char *socket = wa_hook_push_socket(config, here, resolved);
    if (socket != NULL) {
        *ret_data_dir = WA_TAKE(here);
        *ret_path = WA_TAKE(resolved);
    }
    return socket;
}

void
wa_push_helper_leave(const wa_config *config, const char *path)
{
    wa_error ignored = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *data_dir = NULL;
    WA_CLEANUP(wa_freep) char *resolved = NULL;
    WA_CLEANUP(wa_strv_done) wa_strv ready = {0};
    WA_CLEANUP(wa_freep) char *socket = helper_socket(config, path, &data_dir, &resolved);
    if (socket == NULL)
        return;
    WA_CLEANUP(wa_freep) char *wal_dir = wa_path_dir(resolved);
    if (wa_push_ready_after(wal_dir, wa_path_base(path), 1, &ready, &ignored) != WA_OK ||
        ready.count == 0)
        return;
    char self[] = "/proc/self/exe", command[] = "archive-push", flag[] = "--helper",
         config_flag[] = "-c";
    WA_CLEANUP(wa_freep) char *config_path = wa_strdup(wa_config_path(config));
    char *argv[] = {self,        command, flag, resolved, config_path != NULL ? config_flag : NULL,
                    config_path, NULL};
    wa_leave_behind(argv);
}

static void
serve_until_over(wa_hook_server *server, const char *data_dir, wa_cancel *cancel)
{
    wa_error ignored = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *postmaster = wa_path_join(data_dir, "postmaster.pid");
    while (wa_cancel_sleep(cancel, TICK_MS, &ignored) == WA_OK) {
        uint64_t idle = wa_hook_server_idle_ms(server);
        if (idle >= IDLE_MS || (idle >= ORPHAN_MS && !wa_path_exists(postmaster)))
            break;
    }
}

wa_status
wa_push_helper_run(wa_context *ctx, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *data_dir = NULL;
    WA_CLEANUP(wa_freep) char *path = NULL;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    helper h = {0};
    WA_TRY(wa_context_config(ctx, &h.config, err));
    WA_CLEANUP(wa_freep)
    char *socket_path = helper_socket(h.config, ctx->operands[0], &data_dir, &path);
    if (socket_path == NULL)
        return wa_error_set(err, WA_INVALID, "\"%s\" is not in the pg_wal of this directory",
                            ctx->operands[0]);
    wa_malloc_give_back();
    if (chdir("/") != 0)
        return wa_error_errno(err, errno, "could not change to the root directory: %m");
    WA_TRY(wa_open_repo(h.config, NULL, 0, ctx->cancel, WA_REPO_WRITE, &repo, err));
    WA_TRY(wa_repo_load(repo, err));
    h.repo = repo;
    WA_CLEANUP(wa_freep) char *dir = wa_path_dir(socket_path);
    WA_TRY(wa_mkdir_p(dir, 0700, err));
    wa_hook_server_options options = {.socket_path = socket_path,
                                      .arg = &h,
                                      .repo = helper_repo,
                                      .open_repo = helper_open_repo,
                                      .knows = helper_knows,
                                      .ships = helper_ships,
                                      .limits = helper_limits,
                                      .status = helper_status};
    wa_hook_server *server = NULL;
    wa_status status = wa_hook_server_start(&options, &server, err);
    if (status == WA_CONFLICT) { /* one is enough */
        wa_error_clear(err);
        return WA_OK;
    }
    WA_TRY(status);
    wa_hook_server_push_ahead(server, path);
    serve_until_over(server, data_dir, ctx->cancel);
    wa_hook_server_stop(server, GRACE_MS);
    return WA_OK;
}
