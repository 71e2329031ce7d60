/*
 * manifest_parse.c - read a backup manifest without holding it.
 *
 * The format is in manifest_write.c. A small tokenizer cuts the text into scalars of the top-level
 * object and the elements of its two arrays; each is parsed alone. Besides, the text is cut into
 * lines: all but the last go into the SHA-256 that the last one holds.
 *
 * A file with a plain name that is described just as PostgreSQL does it needs no JSON library;
 * everything else goes through it. Both readers accept the same.
 */
#include "walagent/pg/manifest.h"

#include "walagent/base/buf.h"
#include "walagent/base/str.h"
#include "walagent/codec/hash.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define ELEMENT_MAX (64u * 1024)
#define KEY_MAX 64u
#define PLAIN_DIGITS 15 /* a number that every JSON reader holds exactly */

typedef enum parse_state {
    AT_START,     /* '{' */
    AT_FIRST_KEY, /* '"' */
    AT_KEY,       /* '"', after a comma */
    IN_KEY,
    AT_COLON,
    AT_VALUE,
    IN_SCALAR,  /* up to ',' or '}' */
    AT_FIRST,   /* '{' or ']' */
    AT_ELEMENT, /* '{', after a comma */
    IN_ELEMENT,
    AFTER_ELEMENT, /* ',' or ']' */
    AFTER_VALUE,   /* ',' or '}' */
    AT_END         /* white space */
} parse_state;

struct wa_manifest_parser {
    wa_manifest_file_fn fn;
    void *arg;
    wa_manifest_info info;
    parse_state state;
    char key[KEY_MAX + 1];
    size_t key_len;
    wa_buf element;
    unsigned depth;
    bool in_string, escaped;
    bool seen_files, seen_ranges, seen_checksum, failed;
    uint8_t stated_sum[32];
    wa_digest *digest;
    wa_buf line; /* the last line, complete or not */
    bool line_complete;
    uint8_t decoded_path[ELEMENT_MAX / 2];
};

static void
free_jsonp(json_t **p)
{
    json_decref(*p);
    *p = NULL;
}

static wa_status
corrupt(wa_error *err, const char *what)
{
    return wa_error_set(err, WA_CORRUPT, "backup manifest is damaged: %s", what);
}

wa_manifest_parser *
wa_manifest_parser_new(wa_manifest_file_fn fn, void *arg)
{
    wa_manifest_parser *p = wa_calloc(1, sizeof *p);
    p->fn = fn;
    p->arg = arg;
    p->digest = wa_digest_new(WA_SHA256);
    wa_buf_init(&p->element, ELEMENT_MAX);
    wa_buf_init(&p->line, ELEMENT_MAX + 256);
    return p;
}

void
wa_manifest_parser_free(wa_manifest_parser *p)
{
    if (p == NULL)
        return;
    wa_buf_done(&p->element);
    wa_buf_done(&p->line);
    wa_digest_free(p->digest);
    free(p);
}

/* ---- elements ---- */

static wa_status
get_string(const json_t *obj, const char *key, const char **ret, wa_error *err)
{
    const json_t *value = json_object_get(obj, key);
    if (!json_is_string(value))
        return wa_error_set(err, WA_CORRUPT, "backup manifest is damaged: no \"%s\"", key);
    *ret = json_string_value(value);
    return WA_OK;
}

static wa_status
get_number(const json_t *obj, const char *key, uint64_t max, uint64_t *ret, wa_error *err)
{
    const json_t *value = json_object_get(obj, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        (uint64_t)json_integer_value(value) > max)
        return wa_error_set(err, WA_CORRUPT, "backup manifest is damaged: bad \"%s\"", key);
    *ret = (uint64_t)json_integer_value(value);
    return WA_OK;
}

/* Relative, and no component that is empty, "." or "..": a restore must stay in its directory. */
static bool
path_is_safe(const char *path)
{
    for (const char *p = path;;) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        if (p[n] == '\0')
            return true;
        p += n + 1;
    }
}

static wa_status
get_path(wa_manifest_parser *p, const json_t *obj, const char **ret, wa_error *err)
{
    const char *path = NULL;
    if (json_object_get(obj, "Path") != NULL && json_object_get(obj, "Encoded-Path") != NULL)
        return corrupt(err, "both \"Path\" and \"Encoded-Path\"");
    if (json_object_get(obj, "Path") != NULL) {
        WA_TRY(get_string(obj, "Path", &path, err));
    } else {
        const char *hex = NULL;
        size_t len = 0;
        WA_TRY(get_string(obj, "Encoded-Path", &hex, err));
        if (!wa_unhex(hex, p->decoded_path, sizeof p->decoded_path - 1, &len) ||
            memchr(p->decoded_path, '\0', len) != NULL)
            return corrupt(err, "bad \"Encoded-Path\"");
        p->decoded_path[len] = '\0';
        path = (const char *)p->decoded_path;
    }
    if (!path_is_safe(path))
        return wa_error_set(err, WA_CORRUPT,
                            "backup manifest is damaged: path \"%s\" leaves the data directory",
                            path);
    *ret = path;
    return WA_OK;
}

static wa_status
get_checksum(const json_t *obj, wa_manifest_file *file, wa_error *err)
{
    const char *name = NULL, *hex = NULL;
    file->algorithm = WA_MANIFEST_NONE;
    if (json_object_get(obj, "Checksum-Algorithm") == NULL &&
        json_object_get(obj, "Checksum") == NULL)
        return WA_OK;
    WA_TRY(get_string(obj, "Checksum-Algorithm", &name, err));
    WA_TRY(get_string(obj, "Checksum", &hex, err));
    if (!wa_manifest_checksum_parse(name, &file->algorithm))
        return wa_error_set(err, WA_UNSUPPORTED,
                            "backup manifest has checksums of unknown kind "
                            "\"%s\"",
                            name);
    if (!wa_unhex(hex, file->checksum, sizeof file->checksum, &file->checksum_len) ||
        file->checksum_len != wa_manifest_checksum_size(file->algorithm))
        return corrupt(err, "bad \"Checksum\"");
    return WA_OK;
}

static wa_status
give_file(wa_manifest_parser *p, const wa_manifest_file *file, wa_error *err)
{
    if (file->size > UINT64_MAX - p->info.bytes)
        return corrupt(err, "sizes overflow");
    p->info.files++;
    p->info.bytes += file->size;
    return p->fn != NULL ? p->fn(p->arg, file, err) : WA_OK;
}

static wa_status
take_file(wa_manifest_parser *p, const json_t *obj, wa_error *err)
{
    wa_manifest_file file = {0};
    WA_TRY(get_path(p, obj, &file.path, err));
    WA_TRY(get_number(obj, "Size", INT64_MAX, &file.size, err));
    WA_TRY(get_string(obj, "Last-Modified", &file.mtime, err));
    WA_TRY(get_checksum(obj, &file, err));
    return give_file(p, &file, err);
}

/* ---- files as PostgreSQL describes them ---- */

static bool
take_text(char **at, const char *text)
{
    size_t len = strlen(text);
    if (strncmp(*at, text, len) != 0)
        return false;
    *at += len;
    return true;
}

/* Characters that stand for themselves up to a quotation mark; *ret_end is where that is. */
static bool
take_plain(char **at, char **ret, char **ret_end)
{
    *ret = *at;
    while (**at >= ' ' && **at < 0x7f && **at != '"' && **at != '\\')
        ++*at;
    *ret_end = *at;
    return *(*at)++ == '"';
}

static bool
take_size(char **at, uint64_t *ret)
{
    const char *first = *at;
    uint64_t value = 0;
    for (; **at >= '0' && **at <= '9'; ++*at) {
        if (*at - first == PLAIN_DIGITS)
            return false;
        value = value * 10 + (uint64_t)(**at - '0');
    }
    *ret = value;
    return *at > first && (*first != '0' || *at == first + 1);
}

/* The element is changed only when it is one. */
static bool
read_plain(char *element, wa_manifest_file *ret)
{
    char *at = element, *path, *path_end, *mtime, *mtime_end, *hex, *hex_end;
    wa_manifest_file file = {.algorithm = WA_MANIFEST_CRC32C};
    if (!take_text(&at, "{ \"Path\": \"") || !take_plain(&at, &path, &path_end) ||
        !take_text(&at, ", \"Size\": ") || !take_size(&at, &file.size) ||
        !take_text(&at, ", \"Last-Modified\": \"") || !take_plain(&at, &mtime, &mtime_end) ||
        !take_text(&at, ", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"") ||
        !take_plain(&at, &hex, &hex_end) || strcmp(at, " }") != 0)
        return false;
    char digits[9] = "";
    if (hex_end - hex != 8)
        return false;
    memcpy(digits, hex, 8);
    if (!wa_unhex(digits, file.checksum, sizeof file.checksum, &file.checksum_len))
        return false;
    *path_end = '\0';
    if (!path_is_safe(path)) { /* why not is said where the others are read */
        *path_end = '"';
        return false;
    }
    *mtime_end = '\0';
    file.path = path;
    file.mtime = mtime;
    *ret = file;
    return true;
}

static wa_status
take_range(wa_manifest_parser *p, const json_t *obj, wa_error *err)
{
    wa_manifest_range range = {0};
    uint64_t tli = 0;
    const char *start = NULL, *end = NULL;
    WA_TRY(get_number(obj, "Timeline", UINT32_MAX, &tli, err));
    WA_TRY(get_string(obj, "Start-LSN", &start, err));
    WA_TRY(get_string(obj, "End-LSN", &end, err));
    wa_error ignored = WA_ERROR_INIT;
    if (tli == 0 || wa_lsn_parse(start, &range.start, &ignored) != WA_OK ||
        wa_lsn_parse(end, &range.end, &ignored) != WA_OK || range.end < range.start)
        return corrupt(err, "bad WAL range");
    if (p->info.range_count == WA_ARRAY_SIZE(p->info.ranges))
        return wa_error_set(err, WA_UNSUPPORTED, "backup manifest has more than %zu WAL ranges",
                            WA_ARRAY_SIZE(p->info.ranges));
    range.tli = (wa_tli)tli;
    p->info.ranges[p->info.range_count++] = range;
    return WA_OK;
}

static wa_status
parse_element(wa_manifest_parser *p, json_t **ret, wa_error *err)
{
    json_error_t why;
    json_t *json = json_loadb(wa_buf_str(&p->element), p->element.len,
                              JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &why);
    wa_buf_reset(&p->element);
    if (json == NULL)
        return wa_error_set(err, WA_CORRUPT, "backup manifest is damaged: %s", why.text);
    *ret = json;
    return WA_OK;
}

static wa_status
take_element(wa_manifest_parser *p, wa_error *err)
{
    WA_CLEANUP(free_jsonp) json_t *obj = NULL;
    wa_manifest_file file;
    bool whole = strlen(p->element.data) == p->element.len;
    if (whole && strcmp(p->key, "Files") == 0 && read_plain(p->element.data, &file)) {
        wa_status status = give_file(p, &file, err);
        wa_buf_reset(&p->element);
        return status;
    }
    WA_TRY(parse_element(p, &obj, err));
    return strcmp(p->key, "Files") == 0 ? take_file(p, obj, err) : take_range(p, obj, err);
}

static wa_status
take_version(wa_manifest_parser *p, const json_t *value, wa_error *err)
{
    if (p->info.version != 0 || !json_is_integer(value))
        return corrupt(err, "bad version");
    json_int_t version = json_integer_value(value);
    if (version != 1 && version != 2)
        return wa_error_set(err, WA_UNSUPPORTED, "backup manifest has unknown version %lld",
                            (long long)version);
    p->info.version = (int)version;
    return WA_OK;
}

static wa_status
take_system_identifier(wa_manifest_parser *p, const char *text, wa_error *err)
{
    /* An unsigned 64-bit number, which jansson's integers can't hold. */
    wa_error ignored = WA_ERROR_INIT;
    WA_CLEANUP(wa_freep) char *trimmed = wa_strndup(text, strcspn(text, " \t\r\n"));
    if (p->info.system_identifier != 0 ||
        wa_parse_u64(trimmed, &p->info.system_identifier, &ignored) != WA_OK)
        return corrupt(err, "bad \"System-Identifier\"");
    return WA_OK;
}

static wa_status
take_scalar(wa_manifest_parser *p, wa_error *err)
{
    if (strcmp(p->key, "System-Identifier") == 0) {
        WA_TRY(take_system_identifier(p, wa_buf_str(&p->element), err));
        wa_buf_reset(&p->element);
        return WA_OK;
    }
    WA_CLEANUP(free_jsonp) json_t *value = NULL;
    WA_TRY(parse_element(p, &value, err));
    if (strcmp(p->key, "PostgreSQL-Backup-Manifest-Version") == 0)
        return take_version(p, value, err);
    if (strcmp(p->key, "Manifest-Checksum") != 0)
        return wa_error_set(err, WA_CORRUPT, "backup manifest is damaged: unknown \"%s\"", p->key);
    size_t len = 0;
    if (p->seen_checksum || !json_is_string(value) ||
        !wa_unhex(json_string_value(value), p->stated_sum, sizeof p->stated_sum, &len) ||
        len != sizeof p->stated_sum)
        return corrupt(err, "bad \"Manifest-Checksum\"");
    p->seen_checksum = true;
    return WA_OK;
}

/* ---- the tokenizer ---- */

static wa_status
begin_value(wa_manifest_parser *p, char c, wa_error *err)
{
    bool files = strcmp(p->key, "Files") == 0;
    bool ranges = strcmp(p->key, "WAL-Ranges") == 0;
    if (!files && !ranges) {
        p->state = IN_SCALAR;
        p->in_string = c == '"';
        p->escaped = false;
        return wa_buf_append(&p->element, &c, 1, err);
    }
    if (c != '[' || p->info.version == 0 || (files ? p->seen_files : p->seen_ranges))
        return corrupt(err, "arrays out of order");
    p->seen_files |= files;
    p->seen_ranges |= ranges;
    p->state = AT_FIRST;
    return WA_OK;
}

static void
begin_element(wa_manifest_parser *p)
{
    p->state = IN_ELEMENT;
    p->depth = 0;
    p->in_string = p->escaped = false;
}

/* Inside a string: true while c belongs to it. */
static bool
step_string(wa_manifest_parser *p, char c)
{
    if (!p->in_string)
        return false;
    if (p->escaped)
        p->escaped = false;
    else if (c == '\\')
        p->escaped = true;
    else if (c == '"')
        p->in_string = false;
    return true;
}

/* How many of the next characters only belong to the element. */
static size_t
run_length(const wa_manifest_parser *p, const char *data, size_t len)
{
    size_t n = 0;
    if (p->escaped)
        return 0;
    if (p->in_string)
        while (n < len && data[n] != '"' && data[n] != '\\')
            n++;
    else
        while (n < len && data[n] != '"' && data[n] != '{' && data[n] != '}' && data[n] != '[' &&
               data[n] != ']')
            n++;
    return n;
}

static wa_status
too_long(wa_error *err)
{
    return corrupt(err, "an element is longer than 64 KiB");
}

/* One character of an element; its end hands it on. */
static wa_status
step_element(wa_manifest_parser *p, char c, wa_error *err)
{
    if (wa_buf_append(&p->element, &c, 1, err) != WA_OK)
        return too_long(err);
    if (step_string(p, c))
        return WA_OK;
    if (c == '"')
        p->in_string = true;
    else if (c == '{' || c == '[')
        p->depth++;
    else if ((c == '}' || c == ']') && --p->depth == 0) {
        p->state = AFTER_ELEMENT;
        return take_element(p, err);
    }
    return WA_OK;
}

static wa_status
step_scalar(wa_manifest_parser *p, char c, wa_error *err)
{
    bool in_string = step_string(p, c);
    if (!in_string && (c == ',' || c == '}')) {
        p->state = c == ',' ? AT_KEY : AT_END;
        return take_scalar(p, err);
    }
    if (!in_string && c == '"')
        p->in_string = true;
    if (wa_buf_append(&p->element, &c, 1, err) != WA_OK)
        return too_long(err);
    return WA_OK;
}

static wa_status
step_key(wa_manifest_parser *p, char c, wa_error *err)
{
    if (c == '"') {
        p->key[p->key_len] = '\0';
        p->state = AT_COLON;
        return p->seen_checksum ? corrupt(err, "its checksum is not at the end") : WA_OK;
    }
    if (p->key_len == KEY_MAX || c == '\\' || c == '\0')
        return corrupt(err, "a strange key");
    p->key[p->key_len++] = c;
    return WA_OK;
}

/* Where a single character (or one of two) is due. */
static wa_status
step_between(wa_manifest_parser *p, char c, wa_error *err)
{
    static const struct {
        parse_state state;
        char c;
        parse_state next;
    } moves[] = {
        {AT_START, '{', AT_FIRST_KEY},
        {AT_FIRST_KEY, '"', IN_KEY},
        {AT_KEY, '"', IN_KEY},
        {AT_COLON, ':', AT_VALUE},
        {AT_FIRST, ']', AFTER_VALUE},
        {AT_FIRST, '{', IN_ELEMENT},
        {AT_ELEMENT, '{', IN_ELEMENT},
        {AFTER_ELEMENT, ',', AT_ELEMENT},
        {AFTER_ELEMENT, ']', AFTER_VALUE},
        {AFTER_VALUE, ',', AT_KEY},
        {AFTER_VALUE, '}', AT_END},
    };
    if (c == ' ' || c == '\n' || c == '\t' || c == '\r')
        return WA_OK;
    if (p->state == AT_VALUE)
        return begin_value(p, c, err);
    for (size_t i = 0; i < WA_ARRAY_SIZE(moves); i++) {
        if (moves[i].state != p->state || moves[i].c != c)
            continue;
        p->state = moves[i].next;
        if (p->state == IN_KEY)
            p->key_len = 0;
        if (p->state != IN_ELEMENT)
            return WA_OK;
        begin_element(p);
        return step_element(p, c, err);
    }
    return corrupt(err, "it isn't the JSON that PostgreSQL writes");
}

/* ---- the checksum over lines ---- */

static wa_status
feed_lines(wa_manifest_parser *p, const char *data, size_t len, wa_error *err)
{
    while (len > 0) {
        const char *newline = memchr(data, '\n', len);
        size_t n = newline != NULL ? (size_t)(newline - data) + 1 : len;
        if (p->line_complete) {
            wa_digest_update(p->digest, wa_buf_str(&p->line), p->line.len);
            wa_buf_reset(&p->line);
        }
        if (wa_buf_append(&p->line, data, n, err) != WA_OK)
            return corrupt(err, "a line is longer than 64 KiB");
        p->line_complete = newline != NULL;
        data += n;
        len -= n;
    }
    return WA_OK;
}

static wa_status
feed(wa_manifest_parser *p, const char *data, size_t len, wa_error *err)
{
    WA_TRY(feed_lines(p, data, len, err));
    for (size_t i = 0; i < len; i++) {
        if (p->state == IN_ELEMENT) {
            size_t run = run_length(p, data + i, len - i);
            if (wa_buf_append(&p->element, data + i, run, err) != WA_OK)
                return too_long(err);
            i += run;
            if (i < len)
                WA_TRY(step_element(p, data[i], err));
        } else if (p->state == IN_SCALAR)
            WA_TRY(step_scalar(p, data[i], err));
        else if (p->state == IN_KEY)
            WA_TRY(step_key(p, data[i], err));
        else
            WA_TRY(step_between(p, data[i], err));
    }
    return WA_OK;
}

wa_status
wa_manifest_feed(wa_manifest_parser *p, const void *data, size_t len, wa_error *err)
{
    if (p->failed)
        return corrupt(err, "an earlier part could not be read");
    wa_status status = feed(p, data, len, err);
    p->failed = status != WA_OK;
    return status;
}

wa_status
wa_manifest_end(wa_manifest_parser *p, wa_manifest_info *ret, wa_error *err)
{
    uint8_t sum[WA_DIGEST_MAX];
    if (p->failed || p->state != AT_END || !p->seen_checksum)
        return corrupt(err, "it is incomplete");
    if (!p->seen_files || !p->seen_ranges)
        return corrupt(err, "it has no \"Files\" or no \"WAL-Ranges\"");
    if (p->info.version >= 2 && p->info.system_identifier == 0)
        return corrupt(err, "it has no \"System-Identifier\"");
    if (!p->line_complete || !wa_str_starts(wa_buf_str(&p->line), "\"Manifest-Checksum\""))
        return corrupt(err, "its checksum is not on the last line");
    p->failed = true; /* the digest is used up */
    wa_digest_final(p->digest, sum);
    if (memcmp(sum, p->stated_sum, sizeof p->stated_sum) != 0)
        return corrupt(err, "its checksum doesn't match");
    *ret = p->info;
    return WA_OK;
}
