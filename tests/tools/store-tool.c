/*
 * store-tool.c - the object store as commands, for integration tests.
 *
 *   store-tool URL put|replace KEY FILE [META]
 *   store-tool URL get KEY [OFFSET LEN]      bytes to standard output
 *   store-tool URL tail KEY LEN
 *   store-tool URL head KEY                  size=, modified=, meta=
 *   store-tool URL list PREFIX [delimited]   one "size key" a line
 *   store-tool URL delete KEY...
 *   store-tool URL upload KEY FILE PART_SIZE [META]
 *   store-tool URL upload-leave KEY FILE PART_SIZE    parts without a commit, then killed
 *   store-tool URL abort PREFIX              count=
 *   store-tool URL probe                     conditional=yes|no
 *
 * S3 options: WALAGENT_REPOSITORY_S3_ENDPOINT, _REGION, _ADDRESSING, _ACCESS_KEY_ID,
 * _SECRET_ACCESS_KEY, _SESSION_TOKEN, _PROFILE, _CA_FILE, _VERIFY_TLS (off), _STORAGE_CLASS, _SSE.
 * STORE_TOOL_BUDGET_MS: budget of a call. STORE_TOOL_CONDITIONAL=no: as init would have recorded
 * it. SIGTERM cancels. A failure prints "error=<status>", "message=...", "hint=..." to standard
 * error and exits 1.
 */
#include "walagent/base/file.h"
#include "walagent/store/store.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static wa_cancel cancel;
static wa_store *store;

static void
on_terminate(int number)
{
    (void)number;
    wa_cancel_trigger(&cancel);
}

static const char *
option(const char *name)
{
    char variable[80];
    (void)snprintf(variable, sizeof variable, "WALAGENT_REPOSITORY_S3_%s", name);
    const char *value = getenv(variable);
    return wa_str_empty(value) ? NULL : value;
}

static wa_status
open_store(const char *url, wa_error *err)
{
    const char *budget = getenv("STORE_TOOL_BUDGET_MS");
    wa_store_options options = {.url = url,
                                .s3_endpoint = option("ENDPOINT"),
                                .s3_region = option("REGION"),
                                .s3_addressing = option("ADDRESSING"),
                                .s3_access_key_id = option("ACCESS_KEY_ID"),
                                .s3_secret_access_key = option("SECRET_ACCESS_KEY"),
                                .s3_session_token = option("SESSION_TOKEN"),
                                .s3_profile = option("PROFILE"),
                                .s3_ca_file = option("CA_FILE"),
                                .s3_storage_class = option("STORAGE_CLASS"),
                                .s3_sse = option("SSE"),
                                .s3_insecure = wa_str_eq(option("VERIFY_TLS"), "off"),
                                .cancel = &cancel};
    if (!wa_str_empty(budget))
        WA_TRY(wa_parse_u64(budget, &options.budget_ms, err));
    WA_TRY(wa_store_open(&options, &store, err));
    if (wa_str_eq(getenv("STORE_TOOL_CONDITIONAL"), "no"))
        wa_store_set_conditional(store, false);
    return WA_OK;
}

static wa_status
put(const char *key, const char *path, const char *meta, wa_put_mode mode, wa_error *err)
{
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return wa_error_set(err, WA_IO, "could not open \"%s\"", path);
    wa_body body = {.len = (uint64_t)st.st_size, .fd = fd};
    return wa_store_put(store, key, &body, meta, mode, err);
}

static wa_status
get(const char *key, const char *offset_text, const char *len_text, wa_error *err)
{
    uint64_t offset = 0, len = UINT64_MAX;
    if (offset_text != NULL && len_text != NULL) {
        WA_TRY(wa_parse_u64(offset_text, &offset, err));
        WA_TRY(wa_parse_u64(len_text, &len, err));
    }
    WA_CLEANUP(wa_sink_freep) wa_sink *sink = wa_sink_to_fd(STDOUT_FILENO, "standard output");
    WA_TRY(wa_store_get_range_to(store, key, offset, len, sink, err));
    return wa_sink_finish(sink, err);
}

static wa_status
tail(const char *key, const char *len_text, wa_error *err)
{
    uint64_t len, size;
    WA_TRY(wa_parse_u64(len_text, &len, err));
    WA_CLEANUP(wa_buf_done) wa_buf got = WA_BUF_INIT(64u << 20);
    WA_TRY(wa_store_get_tail(store, key, len, &got, &size, NULL, err));
    return wa_write_all(STDOUT_FILENO, wa_buf_str(&got), got.len, "standard output", err);
}

static wa_status
head(const char *key, wa_error *err)
{
    uint64_t size;
    wa_time modified;
    char text[WA_TIME_TEXT];
    WA_CLEANUP(wa_freep) char *meta = NULL;
    WA_TRY(wa_store_head(store, key, &size, &modified, &meta, err));
    printf("size=%" PRIu64 "\nmodified=%s\nmeta=%s\n", size, wa_time_format_rfc3339(modified, text),
           meta);
    return WA_OK;
}

static wa_status
print_object(void *arg, const wa_object *object, wa_error *err)
{
    (void)arg;
    (void)err;
    printf("%" PRIu64 " %s\n", object->size, object->key);
    return WA_OK;
}

static wa_status
upload(const char *key, const char *path, const char *size_text, const char *meta, bool commit,
       wa_error *err)
{
    uint64_t part_size;
    WA_TRY(wa_parse_size(size_text, &part_size, err));
    WA_CLEANUP(wa_buf_done) wa_buf data = WA_BUF_INIT(256u << 20);
    WA_TRY(wa_file_read(path, data.max, &data, err));
    WA_CLEANUP(wa_upload_freep) wa_upload *u = NULL;
    WA_TRY(wa_upload_begin(store, key, meta, part_size, &u, err));
    unsigned number = 1;
    for (size_t at = 0; at < data.len; at += part_size) {
        size_t left = data.len - at;
        size_t n = left < part_size ? left : (size_t)part_size;
        WA_TRY(wa_upload_part(u, number++, data.data + at, n, err));
    }
    if (!commit)
        _exit(0);
    return wa_upload_commit(u, err);
}

static wa_status
run(int argc, char **argv, wa_error *err)
{
    const char *verb = argv[2];
    const char *arg[4] = {NULL};
    for (int i = 3; i < argc && i < 7; i++)
        arg[i - 3] = argv[i];
    if ((wa_str_eq(verb, "put") || wa_str_eq(verb, "replace")) && argc >= 5)
        return put(arg[0], arg[1], arg[2], wa_str_eq(verb, "put") ? WA_PUT_CREATE : WA_PUT_REPLACE,
                   err);
    if (wa_str_eq(verb, "get") && argc >= 4)
        return get(arg[0], arg[1], arg[2], err);
    if (wa_str_eq(verb, "tail") && argc == 5)
        return tail(arg[0], arg[1], err);
    if (wa_str_eq(verb, "head") && argc == 4)
        return head(arg[0], err);
    if (wa_str_eq(verb, "list") && argc >= 4) {
        wa_list_options options = {.prefix = arg[0], .delimited = arg[1] != NULL};
        return wa_store_list(store, &options, print_object, NULL, err);
    }
    if (wa_str_eq(verb, "delete")) {
        wa_strv keys = {argv + 3, (size_t)(argc - 3), 0};
        return wa_store_delete(store, &keys, err);
    }
    if ((wa_str_eq(verb, "upload") || wa_str_eq(verb, "upload-leave")) && argc >= 6)
        return upload(arg[0], arg[1], arg[2], arg[3], wa_str_eq(verb, "upload"), err);
    if (wa_str_eq(verb, "abort") && argc == 4) {
        size_t count = 0;
        WA_TRY(wa_store_abort_uploads(store, arg[0], wa_time_now() + 60000000, &count, err));
        printf("count=%zu\n", count);
        return WA_OK;
    }
    if (wa_str_eq(verb, "probe")) {
        bool conditional = false;
        WA_TRY(wa_store_probe(store, "", &conditional, err));
        printf("conditional=%s\n", conditional ? "yes" : "no");
        return WA_OK;
    }
    return wa_error_set(err, WA_INVALID, "no such command, or wrong arguments");
}

int
main(int argc, char **argv)
{
    wa_error err = WA_ERROR_INIT;
    if (argc < 3) {
        (void)fprintf(stderr, "usage: store-tool URL COMMAND ...\n");
        return 2;
    }
    wa_status status = wa_cancel_init(&cancel, &err);
    struct sigaction action = {.sa_handler = on_terminate};
    (void)sigaction(SIGTERM, &action, NULL);
    if (status == WA_OK)
        status = open_store(argv[1], &err);
    if (status == WA_OK)
        status = run(argc, argv, &err);
    wa_store_free(store);
    wa_cancel_done(&cancel);
    if (status == WA_OK)
        return 0;
    (void)fprintf(stderr, "error=%s\nmessage=%s\nhint=%s\n", wa_status_name(status), err.message,
                  err.hint);
    return 1;
}
