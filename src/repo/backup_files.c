/*
 * src/repo/backup_files.c - files.zst: one JSON object a line.
 *
 *   {"p":path|"x":hex,"t":"f"|"d"|"l","s":size,"m":mode,"c":mtime,"k":pack,"o":offset,
 *    "l":target|"y":hex}
 * "x" and "y" stand for paths and link targets that are not UTF-8. "s", "k", "o" are there for
 * files only, "l" or "y" for links only.
 */
#include "walagent/repo/backup_object.h"

#include "repo_internal.h"

#include "walagent/codec/container.h"

#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 65536u

static void
set_path(json_t *json, const char *key, const char *hex_key, const char *path)
{
    json_t *value = json_string(path); /* NULL unless UTF-8 */
    if (value != NULL) {
        wa_json_set(json, key, value);
        return;
    }
    size_t len = strlen(path);
    WA_CLEANUP(wa_freep) char *hex = wa_malloc(2 * len + 1);
    wa_json_set_string(json, hex_key, wa_hex(path, len, hex));
}

void
wa_backup_file_line(const wa_backup_file *f, wa_buf *out)
{
    const char type[2] = {f->type, '\0'};
    WA_CLEANUP(wa_json_freep) json_t *json = json_object();
    set_path(json, "p", "x", f->path);
    wa_json_set_string(json, "t", type);
    wa_json_set_i64(json, "m", f->mode);
    wa_json_set_i64(json, "c", f->mtime);
    if (f->type == 'f') {
        wa_json_set_u64(json, "s", f->size);
        wa_json_set_i64(json, "k", f->pack);
        wa_json_set_u64(json, "o", f->offset);
    }
    if (f->type == 'l')
        set_path(json, "l", "y", f->link == NULL ? "" : f->link);
    WA_CLEANUP(wa_freep) char *text = wa_json_dump(json, 0);
    wa_buf_puts(out, text);
    wa_buf_putc(out, '\n');
}

/* Relative, without empty, "." or ".." components: a restore writes where it was told to. */
static bool
path_is_safe(const char *path)
{
    if (path[0] == '\0')
        return false;
    for (const char *p = path; *p != '\0';) {
        size_t len = strcspn(p, "/");
        if (len == 0 || (len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        p += len;
        if (*p == '/' && *++p == '\0')
            return false;
    }
    return true;
}

typedef struct files_state {
    const char *key;
    wa_backup_file_fn fn;
    void *arg;
    uint64_t line;
} files_state;

/* The text of `key`, or the bytes of `hex_key` in *scratch; NULL when there is neither. */
static const char *
get_path(const json_t *json, const char *key, const char *hex_key, char **scratch)
{
    const char *text = wa_json_string_or(json, key, NULL);
    if (text != NULL)
        return text;
    const char *hex = wa_json_string_or(json, hex_key, NULL);
    if (hex == NULL)
        return NULL;
    size_t len = 0, room = strlen(hex) / 2;
    *scratch = wa_calloc(room + 1, 1);
    if (!wa_unhex(hex, *scratch, room + 1, &len) || memchr(*scratch, '\0', len) != NULL)
        return NULL;
    return *scratch;
}

static wa_status
parse_line(const json_t *json, const char *what, wa_backup_file *f, wa_error *err)
{
    const char *type = wa_json_string_or(json, "t", "");
    uint64_t mode = 0, pack = 0;
    if (strlen(type) != 1 || strchr("fdl", type[0]) == NULL)
        return wa_error_set(err, WA_CORRUPT, "%s has an unknown type \"%s\"", what, type);
    f->type = type[0];
    WA_TRY(wa_json_get_u64(json, "m", what, &mode, err));
    f->mtime = wa_json_i64_or(json, "c", 0);
    if (f->type == 'f') {
        WA_TRY(wa_json_get_u64(json, "s", what, &f->size, err));
        WA_TRY(wa_json_get_u64(json, "k", what, &pack, err));
        WA_TRY(wa_json_get_u64(json, "o", what, &f->offset, err));
    }
    if (mode > 07777 || pack > UINT32_MAX)
        return wa_error_set(err, WA_CORRUPT, "%s has an impossible mode or pack", what);
    f->mode = (uint32_t)mode;
    f->pack = (uint32_t)pack;
    return WA_OK;
}

wa_status
wa_backup_file_parse(const char *line, size_t len, const char *what, wa_backup_file_fn fn,
                     void *arg, wa_error *err)
{
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    WA_TRY(wa_json_parse(line, len, what, &json, err));
    wa_backup_file f = {0};
    WA_CLEANUP(wa_freep) char *path_bytes = NULL;
    WA_CLEANUP(wa_freep) char *link_bytes = NULL;
    WA_TRY(parse_line(json, what, &f, err));
    f.path = get_path(json, "p", "x", &path_bytes);
    if (f.path == NULL || !path_is_safe(f.path))
        return wa_error_set(err, WA_CORRUPT, "%s has an impossible path", what);
    if (f.type == 'l') {
        f.link = get_path(json, "l", "y", &link_bytes);
        if (f.link == NULL)
            return wa_error_set(err, WA_CORRUPT, "%s has no link target", what);
    }
    return fn(arg, &f, err);
}

static wa_status
take_line(void *arg, const char *line, size_t len, wa_error *err)
{
    files_state *s = arg;
    s->line++;
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
