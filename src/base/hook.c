/*
 * hook.c - modes and exit codes of the hooks, their small files, and calls to the agent.
 */
#include "walagent/base/hook.h"

#include "walagent/base/file.h"
#include "walagent/base/mem.h"
#include "walagent/base/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 500
#define STATE_FILE_MAX 2048
#define WA_PROMOTING_FILE "walagent.promoting"
#define WA_PROMOTING_MAX_MS (24 * 3600 * 1000ull)

wa_get_mode
wa_get_mode_of(const char *data_dir, const char *target)
{
    const char *base = wa_path_base(target);
    if (!wa_str_eq(base, "RECOVERYXLOG") && !wa_str_eq(base, "RECOVERYHISTORY"))
        return WA_GET_RAW;
    WA_CLEANUP(wa_freep) char *standby = wa_path_join(data_dir, "standby.signal");
    return wa_path_exists(standby) ? WA_GET_STANDBY : WA_GET_RECOVERY;
}

const char *
wa_get_mode_name(wa_get_mode mode)
{
    switch (mode) {
    case WA_GET_RAW:
        return "raw";
    case WA_GET_STANDBY:
        return "standby";
    case WA_GET_RECOVERY:
        return "recovery";
    }
    return "raw";
}

int
wa_get_exit_code(wa_get_mode mode, wa_status status)
{
    if (status == WA_OK)
        return 0;
    if (status == WA_NOT_FOUND)
        return 1;
    switch (mode) {
    case WA_GET_RECOVERY:
        return WA_EXIT_RECOVERY_FAILED;
    case WA_GET_STANDBY:
        return 4;
    case WA_GET_RAW:
        break;
    }
    /* 1 is taken by "positively absent": any other failure must not look like it. */
    int code = wa_exit_code(status);
    return code == 1 ? 4 : code;
}

int
wa_exit_code(wa_status status)
{
    switch (status) {
    case WA_OK:
        return 0;
    case WA_INVALID:
    case WA_UNSUPPORTED:
        return 2;
    case WA_UNREACHABLE:
    case WA_CORRUPT:
        return 3;
    case WA_UNAVAILABLE:
        return 4;
    case WA_CONFLICT:
        return 5;
    case WA_NOT_FOUND:
    case WA_EXISTS:
    case WA_DENIED:
    case WA_CANCELLED:
    case WA_NO_SPACE:
    case WA_IO:
    case WA_FAILED:
        return 1;
    }
    return 1;
}

char *
wa_hook_socket_path(const wa_config *config)
{
    const char *socket = wa_config_string(config, "agent", "socket");
    if (!wa_str_empty(socket))
        return wa_strdup(socket);
    return wa_format("/run/walagent/%s.sock", wa_config_string(config, "cluster", "name"));
}

static char *
state_path(const char *data_dir, const char *name)
{
    return wa_format("%s/" WA_HOOK_DIR "/pgsql_tmp_%s", data_dir, name);
}

char *
wa_hook_prefetched_path(const char *data_dir, const char *name)
{
    return state_path(data_dir, name);
}

char *
wa_hook_prefetch_socket(const char *data_dir)
{
    return state_path(data_dir, "socket");
}

bool
wa_hook_prefetch_tell(const char *data_dir, const char *name)
{
    wa_error ignored = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *path = wa_hook_prefetch_socket(data_dir);
    WA_CLEANUP(wa_closep) int fd = -1;
    WA_CLEANUP(wa_strv_done) wa_strv message = {0};
    if (wa_socket_connect(path, 0, &fd, &ignored) != WA_OK)
        return false;
    wa_strv_add(&message, "taken");
    wa_strv_add(&message, name);
    return wa_socket_send(fd, &message, &ignored) == WA_OK;
}

/* FNV-1a: two archive_commands of one server must not meet each other's helper. Secrets stay out of
 * a file's name. */
static uint64_t
hash_of_config(const wa_config *config)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (const wa_option *o = wa_options; o->section != NULL; o++) {
        const char *value = o->secret ? NULL : wa_config_string(config, o->section, o->key);
        for (const char *p = value == NULL ? "" : value;; p++) {
            hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
            if (*p == '\0')
                break;
        }
    }
    return hash;
}

char *
wa_hook_push_socket(const wa_config *config, const char *data_dir, const char *path)
{
    char wal_dir[PATH_MAX];
    WA_CLEANUP(wa_freep) char *here = wa_path_join(data_dir, "pg_wal");
    WA_CLEANUP(wa_freep) char *dir = wa_path_dir(path);
    if (realpath(here, wal_dir) == NULL || strcmp(wal_dir, dir) != 0)
        return NULL;
    return wa_format("%s/" WA_HOOK_DIR "/pgsql_tmp_push_%016llx", data_dir,
                     (unsigned long long)hash_of_config(config));
}

/* Wall-clock: these files are read by other processes, perhaps after a reboot. */
static uint64_t
unix_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* "<Unix ms>\n...": true while it lies ahead, but not further than it was ever written. */
static bool
still_counts(const char *path, uint64_t at_most_ms, uint64_t *ret_left_ms, char *rest, size_t size)
{
    char text[STATE_FILE_MAX];
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t len = read(fd, text, sizeof text - 1);
    if (len <= 0)
        return false;
    text[len] = '\0';
    char *end = NULL;
    errno = 0;
    unsigned long long until = strtoull(text, &end, 10);
    uint64_t now = unix_ms();
    if (errno != 0 || end == text || *end != '\n' || until <= now || until - now > at_most_ms)
        return false;
    *ret_left_ms = until - now;
    if (rest != NULL)
        snprintf(rest, size, "%s", end + 1);
    return true;
}

void
wa_hook_remember_failure(const char *data_dir, const char *message)
{
    WA_CLEANUP(wa_freep) char *dir = wa_path_join(data_dir, WA_HOOK_DIR);
    WA_CLEANUP(wa_freep) char *path = state_path(data_dir, "failed");
    WA_CLEANUP(wa_freep) char *tmp = wa_format("%s.%d", path, (int)getpid());
    WA_CLEANUP(wa_freep)
    char *text =
        wa_format("%llu\n%.1000s", (unsigned long long)unix_ms() + WA_HOOK_FAILURE_MS, message);
    wa_error ignored = WA_ERROR_INIT;
    (void)mkdir(dir, 0700);
    WA_CLEANUP(wa_closep) int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (wa_write_all(fd, text, strlen(text), tmp, &ignored) != WA_OK || rename(tmp, path) != 0)
        (void)unlink(tmp);
}

void
wa_hook_forget_failure(const char *data_dir)
{
    WA_CLEANUP(wa_freep) char *path = state_path(data_dir, "failed");
    (void)unlink(path);
}

bool
wa_hook_failed_lately(const char *data_dir, char *message, size_t size)
{
    WA_CLEANUP(wa_freep) char *path = state_path(data_dir, "failed");
    uint64_t left = 0;
    return still_counts(path, WA_HOOK_FAILURE_MS, &left, message, size);
}

wa_status
wa_hook_promoting_begin(const char *data_dir, uint64_t ms, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(data_dir, WA_PROMOTING_FILE);
    WA_CLEANUP(wa_freep) char *text = wa_format("%llu\n", (unsigned long long)(unix_ms() + ms));
    return wa_file_write(path, text, strlen(text), 0600, WA_WRITE_REPLACE, err);
}

void
wa_hook_promoting_end(const char *data_dir)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(data_dir, WA_PROMOTING_FILE);
    (void)unlink(path);
}

bool
wa_hook_promoting(const char *data_dir, uint64_t *ret_left_ms)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(data_dir, WA_PROMOTING_FILE);
    return still_counts(path, WA_PROMOTING_MAX_MS, ret_left_ms, NULL, 0);
}

static wa_status
status_of_name(const char *name)
{
    for (wa_status s = WA_NOT_FOUND; s < WA_FAILED; s++)
        if (wa_str_eq(wa_status_name(s), name))
            return s;
    return WA_FAILED;
}

wa_status
wa_hook_call(const char *socket_path, const wa_strv *request, int timeout_ms, bool *ret_answered,
             wa_strv *ret_fields, wa_error *err)
{
    WA_CLEANUP(wa_closep) int fd = -1;
    WA_CLEANUP(wa_strv_done) wa_strv answer = {0};
    *ret_answered = false;
    WA_TRY(wa_socket_connect(socket_path, CONNECT_TIMEOUT_MS, &fd, err));
    WA_TRY(wa_socket_send(fd, request, err));
    WA_TRY(wa_socket_receive(fd, NULL, timeout_ms, &answer, err));
    if (wa_str_eq(answer.items[0], "ok")) {
        *ret_answered = true;
        wa_strv_done(ret_fields);
        for (size_t i = 1; i < answer.count; i++)
            wa_strv_add(ret_fields, answer.items[i]);
        return WA_OK;
    }
    if (!wa_str_eq(answer.items[0], "error") || answer.count < 4)
        return wa_error_set(err, WA_CORRUPT, "the agent's answer is not understood");
    *ret_answered = true;
    wa_error_set(err, status_of_name(answer.items[1]), "%s", answer.items[2]);
    if (answer.items[3][0] != '\0')
        wa_error_hint(err, "%s", answer.items[3]);
    return err->status;
}
