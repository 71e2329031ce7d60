/*
 * src/repo/backup_files.c - files.zst as a stream of files; its lines: backup_line.c.
 */
#include "walagent/repo/backup_object.h"

#include "repo_internal.h"

#include "walagent/codec/container.h"

#define LINE_MAX_BYTES 65536u

typedef struct files_state {
    const char *key;
    wa_backup_file_fn fn;
    void *arg;
    uint64_t line;
} files_state;

static wa_status
take_line(void *arg, const char *line, size_t len, wa_error *err)
{
    files_state *s = arg;
    s->line++;
    char plain[WA_PLAIN_PATH];
    wa_backup_file f;
    if (wa_backup_file_plain(line, len, plain, &f))
        return s->fn(s->arg, &f, err);
    WA_CLEANUP(wa_freep)
    char *what = wa_format("line %llu of \"%s\"", (unsigned long long)s->line, s->key);
    return wa_backup_file_parse(line, len, what, s->fn, s->arg, err);
}

wa_status
wa_backup_files(wa_repo *repo, const char *label, wa_backup_file_fn fn, void *arg, wa_error *err)
{
    if (!wa_backup_label_valid(label))
        return wa_error_set(err, WA_INVALID, "invalid backup label \"%s\"", label);
    WA_CLEANUP(wa_freep) char *key = wa_backup_key(repo, label, "files.zst");
    WA_CLEANUP(wa_ranges_freep) wa_ranges *ranges = NULL;
    WA_CLEANUP(wa_container_freep) wa_container *c = NULL;
    WA_TRY(wa_repo_open_end(repo, key, &ranges, NULL, err));
    WA_TRY(wa_container_open(ranges, &c, err));
    const char *kind = wa_json_string_or(wa_container_facts(c), "kind", "");
    if (!wa_str_eq(kind, "files"))
        return wa_error_set(err, WA_CORRUPT, "object \"%s\" is of kind \"%s\"", key, kind);
    files_state state = {.key = key, .fn = fn, .arg = arg};
    WA_CLEANUP(wa_sink_freep)
    wa_sink *lines = wa_sink_to_lines(LINE_MAX_BYTES, key, take_line, &state);
    WA_TRY(wa_container_read_all(c, NULL, lines, err));
    return wa_sink_finish(lines, err);
}
