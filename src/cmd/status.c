/*
 * status.c - walagent status: ask the running agent over its socket.
 */
#include "commands_internal.h"

#include "walagent/base/hook.h"
#include "walagent/base/socket.h"

#include <stdarg.h>
#include <string.h>

#define ANSWER_TIMEOUT_MS 5000

wa_status
wa_ask_agent(wa_context *ctx, const char *socket, json_t **ret, wa_error *err)
{
    WA_CLEANUP(wa_closep) int fd = -1;
    wa_status status = wa_socket_connect(socket, ANSWER_TIMEOUT_MS, &fd, err);
    if (status == WA_UNAVAILABLE) {
        wa_error_wrap(err, "no agent answers on \"%s\"", socket);
        return wa_error_hint(err,
                             "Start it with \"walagent run\" or \"systemctl start walagent@...\".");
    }
    WA_TRY(status);
    WA_CLEANUP(wa_strv_done) wa_strv request = {0};
    WA_CLEANUP(wa_strv_done) wa_strv answer = {0};
    wa_strv_add(&request, "status");
    WA_TRY(wa_socket_send(fd, &request, err));
    WA_TRY(wa_socket_receive(fd, ctx->cancel, ANSWER_TIMEOUT_MS, &answer, err));
    if (answer.count < 2 || strcmp(answer.items[0], "ok") != 0)
        return wa_error_set(err, WA_FAILED, "the agent answered \"%s\"",
                            answer.count > 0 ? answer.items[answer.count - 1] : "");
    return wa_json_parse(answer.items[1], strlen(answer.items[1]), "the agent's answer", ret, err);
}

static void line(const char *name, const char *fmt, ...) WA_PRINTF(2, 3);

static void
line(const char *name, const char *fmt, ...)
{
    char text[640];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    printf("%-12s %s\n", name, text);
}

static void
print_stream(const json_t *stream)
{
    char size[WA_SIZE_TEXT], age[WA_SIZE_TEXT];
    line("stream", "%s%s%s", wa_json_string_or(stream, "state", "-"),
         wa_json_string_or(stream, "host", NULL) ? " from " : "",
         wa_json_string_or(stream, "host", ""));
    line("timeline", "%lld (branch %s, epoch %lld)%s",
         (long long)wa_json_i64_or(stream, "timeline", 0), wa_json_string_or(stream, "branch", "-"),
         (long long)wa_json_i64_or(stream, "epoch", 0),
         wa_json_bool_or(stream, "synchronous", false) ? ", synchronous" : "");
    line("received", "%s", wa_json_string_or(stream, "received_lsn", "-"));
    line("durable", "%s", wa_json_string_or(stream, "durable_lsn", "-"));
    line("server", "%s", wa_json_string_or(stream, "server_end_lsn", "-"));
    uint64_t limit_bytes = wa_json_u64_or(stream, "lag_limit_bytes", 0);
    char limit[WA_SIZE_TEXT];
    line("lag", "%s%s%s, %s, %llu commits",
         wa_format_size(wa_json_u64_or(stream, "lag_bytes", 0), size),
         limit_bytes > 0 ? " of at most " : "",
         limit_bytes > 0 ? wa_format_size(limit_bytes, limit) : "",
         wa_format_duration_ms(wa_json_u64_or(stream, "lag_ms", 0), age),
         (unsigned long long)wa_json_u64_or(stream, "lag_commits", 0));
    line("archived", "%llu segments, %llu chunks",
         (unsigned long long)wa_json_u64_or(stream, "segments_archived", 0),
         (unsigned long long)wa_json_u64_or(stream, "chunks_archived", 0));
    const json_t *hole = json_object_get(stream, "hole");
    if (hole != NULL)
        line("HOLE", "WAL from %s to %s is missing: take a base backup",
             wa_json_string_or(hole, "begin_lsn", "-"), wa_json_string_or(hole, "end_lsn", "-"));
    if (wa_json_string_or(stream, "last_error", NULL) != NULL)
        line("last error", "%s: %s", wa_json_string_or(stream, "last_error_time", "-"),
             wa_json_string_or(stream, "last_error", ""));
}

static void
print_repositories(const json_t *list)
{
    for (size_t i = 1; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        bool compared = wa_json_string_or(one, "compared_time", NULL) != NULL;
        bool complete = wa_json_bool_or(one, "complete", false);
        line("mirror", "%s (%s) %s%s", wa_json_string_or(one, "name", "-"),
             wa_json_string_or(one, "url", "-"), wa_json_bool_or(one, "up", true) ? "up" : "DOWN",
             !compared  ? ", not compared yet"
             : complete ? ""
                        : ", INCOMPLETE: run \"walagent mirror\"");
        if (!wa_json_bool_or(one, "up", true))
            line("", "%s", wa_json_string_or(one, "last_error", ""));
    }
}

static void
print_status(const json_t *json)
{
    char used[WA_SIZE_TEXT], max[WA_SIZE_TEXT];
    line("cluster", "%s (%s)", wa_json_string_or(json, "cluster", "-"),
         wa_json_string_or(json, "repository", "-"));
    line("agent", "pid %lld, version %s, since %s", (long long)wa_json_i64_or(json, "pid", 0),
         wa_json_string_or(json, "version", "-"), wa_json_string_or(json, "started", "-"));
    if (wa_json_string_or(json, "waiting_for", NULL) != NULL)
        line("waiting for", "%s", wa_json_string_or(json, "waiting_for", ""));
    const json_t *stream = json_object_get(json, "stream");
    if (stream != NULL)
        print_stream(stream);
    print_repositories(json_object_get(json, "repositories"));
    const json_t *slot = json_object_get(json, "slot");
    if (slot != NULL)
        line("slot", "restart_lsn %s%s%s", wa_json_string_or(slot, "restart_lsn", "-"),
             wa_json_string_or(slot, "wal_status", NULL) ? ", WAL " : "",
             wa_json_string_or(slot, "wal_status", ""));
    const json_t *spool = json_object_get(json, "spool");
    if (spool != NULL)
        line("spool", "%s of %s", wa_format_size(wa_json_u64_or(spool, "bytes", 0), used),
             wa_format_size(wa_json_u64_or(spool, "max_bytes", 0), max));
}

static wa_status
run(wa_context *ctx, wa_error *err)
{
    const wa_config *config = NULL;
    WA_TRY(wa_context_config(ctx, &config, err));
    WA_CLEANUP(wa_freep) char *socket = wa_hook_socket_path(config);
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    WA_TRY(wa_ask_agent(ctx, socket, &json, err));
    if (ctx->json)
        wa_print_json(json);
    else
        print_status(json);
    return WA_OK;
}

static const wa_command_option options[] = {
    {"json", 0, WA_ARG_FLAG, NULL, "JSON (docs/json.md)."},
    {NULL, 0, WA_ARG_FLAG, NULL, NULL},
};

const wa_command wa_command_status = {
    .name = "status",
    .summary = "what the running agent does: positions, lag, spool, slot, errors",
    .options = options,
    .description =
        "Asks the agent of this configuration over its local socket. durable is what PostgreSQL "
        "was told to be flushed; lag is what would be lost if the server's disk were lost now.",
    .exit_codes = "  0   answered\n  4   no agent answers",
    .example = "  walagent status\n  walagent status --json",
    .run = run,
};
