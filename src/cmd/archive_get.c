/*
 * archive_get.c - walagent archive-get: restore_command, when neither a prefetched file nor an
 * agent serves it; and the prefetcher that it leaves behind.
 */
#include "commands_internal.h"

#include "walagent/base/file.h"
#include "walagent/base/hook.h"
#include "walagent/base/thread.h"
#include "walagent/wal/get.h"
#include "walagent/wal/prefetch.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define WORKERS 4
#define BACKLOG 8

/* Triggers the command's cancel at the deadline, so that no attempt passes it. */
typedef struct alarm_clock {
    wa_mutex mutex;
    wa_cond cond;
    wa_mono deadline;
    bool off, rang;
    wa_cancel *cancel;
    pthread_t thread;
    bool running;
} alarm_clock;

static void *
alarm_main(void *arg)
{
    alarm_clock *a = arg;
    WA_LOCK(&a->mutex);
    while (!a->off && wa_cond_wait_until(&a->cond, &a->mutex, a->deadline))
        continue;
    a->rang = !a->off;
    if (a->rang)
        wa_cancel_trigger(a->cancel);
    return NULL;
}

static wa_status
alarm_set(alarm_clock *a, wa_cancel *cancel, wa_mono deadline, wa_error *err)
{
    wa_mutex_init(&a->mutex);
    wa_cond_init(&a->cond);
    a->deadline = deadline;
    a->cancel = cancel;
    WA_TRY(wa_thread_start(&a->thread, "deadline", alarm_main, a, err));
    a->running = true;
    return WA_OK;
}

static bool
alarm_stop(alarm_clock *a)
{
    if (!a->running)
        return false;
    wa_lock(&a->mutex);
    a->off = true;
    wa_cond_signal(&a->cond);
    wa_unlock(&a->mutex);
    wa_thread_join(a->thread);
    a->running = false;
    wa_cond_done(&a->cond);
    wa_mutex_done(&a->mutex);
    return a->rang;
}

typedef struct get_run {
    wa_context *ctx;
    const wa_config *config;
    wa_get_mode mode;
    const char *name, *target;
    char *data_dir;
    wa_get_result result;
    uint64_t segment_size;
} get_run;

static uint64_t
patience_ms(const get_run *r)
{
    uint64_t left = 0;
    switch (r->mode) {
    case WA_GET_STANDBY:
        if (wa_hook_promoting(r->data_dir, &left))
            return left;
        return wa_config_duration_ms(r->config, "archive", "get_timeout");
    case WA_GET_RECOVERY:
        return wa_config_duration_ms(r->config, "archive", "pitr_timeout");
    case WA_GET_RAW:
        break;
    }
    return 0; /* one attempt, with the store's own retries */
}

static wa_status
open_and_get(get_run *r, wa_mono deadline, wa_error *err)
{
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_CLEANUP(wa_pool_freep) wa_pool *pool = NULL;
    /* 0: the default; a standby must not wait for a dead store's retries */
    uint64_t budget = r->mode == WA_GET_STANDBY ? (uint64_t)wa_mono_left(deadline) : 0;
    /* a main repository that is away leaves time for a mirror */
    if (wa_config_repositories(r->config)[0] != NULL)
        budget /= 2;
    WA_TRY(wa_open_repo(r->config, wa_arg_value(r->ctx, "repository"), budget, r->ctx->cancel,
                        WA_REPO_GET, &repo, err));
    size_t workers = wa_processors() < WORKERS ? wa_processors() : WORKERS;
    WA_TRY(wa_pool_new("decompress", workers, BACKLOG, &pool, err));
    wa_get_options options = {
        .repo = repo, .pool = pool, .data_dir = r->data_dir, .cancel = r->ctx->cancel};
    WA_TRY(wa_get_file_until(&options, r->mode, r->name, r->target, deadline, &r->result, err));
    if (r->result.note[0] != '\0')
        fprintf(stderr, "walagent: WARNING:  WAL segment \"%s\": %s\n", r->name, r->result.note);
    r->segment_size = wa_repo_cluster(repo)->segment_size;
    return WA_OK;
}

static wa_status
get_in_time(get_run *r, wa_error *err)
{
    wa_status status = wa_context_config(r->ctx, &r->config, err);
    if (status == WA_NOT_FOUND) /* a missing configuration is no answer about a file */
        status = err->status = WA_INVALID;
    WA_TRY(status);
    alarm_clock alarm = {0};
    uint64_t patience = patience_ms(r);
    wa_mono deadline = wa_mono_now() + patience;
    if (patience > 0)
        WA_TRY(alarm_set(&alarm, r->ctx->cancel, deadline, err));
    status = open_and_get(r, deadline, err);
    if (alarm_stop(&alarm) && status == WA_CANCELLED)
        status = wa_error_set(err, WA_UNAVAILABLE,
                              "the archive did not answer within %.1f s about \"%s\"",
                              (double)patience / 1000, r->name);
    return status;
}

static void
leave_prefetcher(const get_run *r)
{
    char self[] = "/proc/self/exe", command[] = "archive-get", flag[] = "--prefetcher",
         config_flag[] = "-c", alone_flag[] = "--repository";
    const char *config = wa_config_path(r->config);
    WA_CLEANUP(wa_freep) char *path = wa_strdup(config);
    WA_CLEANUP(wa_freep) char *name = wa_strdup(r->name);
    WA_CLEANUP(wa_freep) char *alone = wa_strdup(wa_arg_value(r->ctx, "repository"));
    char *argv[11] = {self, command, flag, name, r->data_dir};
    size_t count = 5;
    if (path != NULL) {
        argv[count++] = config_flag;
        argv[count++] = path;
    }
    if (alone != NULL) {
        argv[count++] = alone_flag;
        argv[count++] = alone;
    }
    wa_leave_behind(argv); /* without one the next call is merely slower */
}

static void
prefetch_next(const get_run *r)
{
    uint64_t max = wa_config_size(r->config, "archive", "prefetch_max");
    if (r->mode == WA_GET_RAW || r->result.from_tail || max < r->segment_size ||
        wa_wal_file_kind_of(r->name) != WA_WAL_SEGMENT)
        return;
    if (!wa_hook_prefetch_tell(r->data_dir, r->name))
        leave_prefetcher(r);
}

/* The full program's own life as a prefetcher; its standard error is nobody's. */
static wa_status
run_prefetcher(wa_context *ctx, wa_error *err)
{
    const wa_config *config = NULL;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_TRY(wa_context_config(ctx, &config, err));
    const char *data_dir = ctx->operands[1];
    wa_get_mode mode = WA_GET_RAW;
    {
        WA_CLEANUP(wa_freep) char *target = wa_path_join(data_dir, "pg_wal/RECOVERYXLOG");
        mode = wa_get_mode_of(data_dir, target);
    }
    if (chdir("/") != 0)
        return wa_error_errno(err, errno, "could not change to the root directory: %m");
    WA_TRY(wa_open_repo(config, wa_arg_value(ctx, "repository"), 0, ctx->cancel, WA_REPO_GET, &repo,
                        err));
    WA_TRY(wa_repo_load(repo, err));
    wa_prefetch_options options = {.repo = repo,
                                   .data_dir = data_dir,
                                   .mode = mode,
                                   .after = ctx->operands[0],
                                   .max_bytes = wa_config_size(config, "archive", "prefetch_max"),
                                   .idle_ms = WA_PREFETCH_IDLE_MS,
                                   .chain_ms = WA_PREFETCH_CHAIN_MS,
                                   .workers = wa_prefetch_workers(repo),
                                   .cancel = ctx->cancel};
    return wa_prefetch_run(&options, err);
}

static wa_status
run(wa_context *ctx, wa_error *err)
{
    if (wa_arg_flag(ctx, "prefetcher"))
        return run_prefetcher(ctx, err);
    get_run r = {.ctx = ctx, .name = ctx->operands[0], .target = ctx->operands[1]};
    WA_CLEANUP(wa_freep) char *here = getcwd(NULL, 0);
    r.data_dir = here;
    if (here == NULL) {
        ctx->exit_code = WA_EXIT_RECOVERY_FAILED;
        return wa_error_errno(err, errno, "could not tell the current directory: %m");
    }
    uint64_t left = 0;
    r.mode = wa_get_mode_of(here, r.target);
    bool promoting = r.mode == WA_GET_STANDBY && wa_hook_promoting(here, &left);
    wa_status status = get_in_time(&r, err);
    bool failed = status != WA_OK && status != WA_NOT_FOUND;
    ctx->exit_code =
        failed && promoting ? WA_EXIT_RECOVERY_FAILED : wa_get_exit_code(r.mode, status);
    if (status == WA_OK) {
        prefetch_next(&r);
        if (r.mode == WA_GET_STANDBY)
            wa_hook_forget_failure(here);
        return WA_OK;
    }
    if (!failed && r.mode != WA_GET_RAW)
        return WA_OK; /* asked for all the time: no line in the server's log */
    if (r.mode == WA_GET_STANDBY)
        wa_hook_remember_failure(here, err->message);
    return status;
}

static const wa_command_option options[] = {
    {"prefetcher", 0, WA_ARG_FLAG, NULL,
     "Started by archive-get itself: fetch ahead of NAME for the data directory PATH; ends by "
     "itself."},
    WA_OPTION_REPOSITORY,
    {NULL, 0, WA_ARG_FLAG, NULL, NULL},
};

const wa_command wa_command_archive_get = {
    .name = "archive-get",
    .summary = "get a WAL or history file from the archive (restore_command)",
    .operands = "NAME PATH",
    .min_operands = 2,
    .max_operands = 2,
    .options = options,
    .description =
        "Set restore_command = 'walagent archive-get %f %p'. What it does depends on who asks: a "
        "server in recovery (PATH ends in RECOVERYXLOG or RECOVERYHISTORY), a standby if "
        "standby.signal is there; or anybody else, as pg_rewind.\n\n"
        "A server gets only what is in the accepted lineage (or in the chain that its restore "
        "wrote down), segments whose checksums were verified, and of the unfinished segment what "
        "is there, filled up with zeroes, but never less than its own pg_wal holds.\n\n"
        "A failing look-up is retried for get_timeout in a standby, and remembered for 10 s; for "
        "pitr_timeout in point-in-time recovery.",
    .exit_codes = "1    not in the archive, and nothing else\n"
                  "4    standby, or not recovery: the archive could not be asked\n"
                  "254  point-in-time recovery: anything that failed, so that the server stops "
                  "instead of ending recovery",
    .example = "  restore_command = 'walagent archive-get -c /etc/walagent/main.conf %f %p'\n"
               "  walagent archive-get 00000001000000000000002A /tmp/segment",
    .run = run,
};
