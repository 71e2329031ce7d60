/*
 * src/repo/backup_line.c - one line of files.zst, written and read.
 *
 *   {"p":path|"x":hex,"t":"f"|"d"|"l","m":mode,"c":mtime,"s":size,"k":pack,"o":offset,
 *    "l":target|"y":hex}
 * "x" and "y" stand for paths and link targets that are not UTF-8. "s", "k", "o" are there for
 * files only, "l" or "y" for links only.
 *
 * Nearly all lines are files and directories with a plain name, written just so: these need no JSON
 * library, which takes longer for a line than the rest of a restore for a small file. What is
 * written differently, with other members or in another order, is read by the library; both
 * readers accept the same.
 */
#include "walagent/repo/backup_object.h"

#include "repo_internal.h"

#include <stdlib.h>
#include <string.h>

#define PLAIN_DIGITS 15 /* a number that every JSON reader holds exactly */

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

/* Stands for itself in a JSON string. */
static bool
is_plain(char c)
{
    return c >= ' ' && c < 0x7f && c != '"' && c != '\\';
}

static size_t
plain_length(const char *text)
{
    size_t len = 0;
    while (is_plain(text[len]))
        len++;
    return len;
}

static void
put_number(wa_buf *out, const char *name, uint64_t value)
{
    char digits[24];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    wa_buf_puts(out, name);
    wa_buf_add(out, digits + at, sizeof digits - at);
}

static bool
is_small(uint64_t value)
{
    return value < UINT64_C(1000000000000000); /* PLAIN_DIGITS */
}

/* False, with nothing written: it takes the library. */
static bool
write_plain(const wa_backup_file *f, wa_buf *out)
{
    size_t len = plain_length(f->path);
    if (f->path[len] != '\0' || f->type == 'l' || f->mtime < 0 || !is_small((uint64_t)f->mtime) ||
        (f->type == 'f' && (!is_small(f->size) || !is_small(f->offset))))
        return false;
    wa_buf_puts(out, "{\"p\":\"");
    wa_buf_add(out, f->path, len);
    wa_buf_puts(out, "\",\"t\":\"");
    wa_buf_putc(out, f->type);
    put_number(out, "\",\"m\":", f->mode);
    put_number(out, ",\"c\":", (uint64_t)f->mtime);
    if (f->type == 'f') {
        put_number(out, ",\"s\":", f->size);
        put_number(out, ",\"k\":", f->pack);
        put_number(out, ",\"o\":", f->offset);
    }
    wa_buf_puts(out, "}\n");
    return true;
}

void
wa_backup_file_line(const wa_backup_file *f, wa_buf *out)
{
    if (write_plain(f, out))
        return;
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

typedef struct cursor {
    const char *at, *end;
} cursor;

static bool
take_text(cursor *c, const char *text)
{
    size_t len = strlen(text);
    if ((size_t)(c->end - c->at) < len || memcmp(c->at, text, len) != 0)
        return false;
    c->at += len;
    return true;
}

/* `name`, then a number without sign, fraction or leading zeros. */
static bool
take_number(cursor *c, const char *name, uint64_t *ret)
{
    uint64_t value = 0;
    if (!take_text(c, name))
        return false;
    const char *first = c->at;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        if (c->at - first == PLAIN_DIGITS)
            return false;
        value = value * 10 + (uint64_t)(*c->at - '0');
    }
    *ret = value;
    return c->at > first && (*first != '0' || c->at == first + 1);
}

static bool
take_plain_path(cursor *c, char path[static WA_PLAIN_PATH])
{
    const char *first = c->at;
    while (c->at < c->end && is_plain(*c->at))
        c->at++;
    size_t len = (size_t)(c->at - first);
    if (len >= WA_PLAIN_PATH)
        return false;
    memcpy(path, first, len);
    path[len] = '\0';
    return path_is_safe(path);
}

bool
wa_backup_file_plain(const char *line, size_t len, char path[static WA_PLAIN_PATH],
                     wa_backup_file *ret)
{
    cursor c = {line, line + len};
    uint64_t mode, mtime, pack = 0;
    wa_backup_file f = {.path = path};
    if (!take_text(&c, "{\"p\":\"") || !take_plain_path(&c, path))
        return false;
    if (take_text(&c, "\",\"t\":\"f\""))
        f.type = 'f';
    else if (take_text(&c, "\",\"t\":\"d\""))
        f.type = 'd';
    else
        return false;
    if (!take_number(&c, ",\"m\":", &mode) || !take_number(&c, ",\"c\":", &mtime))
        return false;
    if (f.type == 'f' &&
        (!take_number(&c, ",\"s\":", &f.size) || !take_number(&c, ",\"k\":", &pack) ||
         !take_number(&c, ",\"o\":", &f.offset)))
        return false;
    if (!take_text(&c, "}") || c.at != c.end || mode > 07777 || pack > UINT32_MAX)
        return false;
    f.mode = (uint32_t)mode;
    f.mtime = (int64_t)mtime;
    f.pack = (uint32_t)pack;
    *ret = f;
    return true;
}

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
    char plain[WA_PLAIN_PATH];
    wa_backup_file f = {0};
    if (wa_backup_file_plain(line, len, plain, &f))
        return fn(arg, &f, err);
    WA_CLEANUP(wa_json_freep) json_t *json = NULL;
    WA_TRY(wa_json_parse(line, len, what, &json, err));
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
