/*
 * recovery.c - backup_label, and settings in postgresql.auto.conf.
 *
 * backup_label, in this order (lines end with a newline):
 *   START WAL LOCATION: X/X (file SEGMENT)
 *   CHECKPOINT LOCATION: X/X
 *   BACKUP METHOD: streamed
 *   BACKUP FROM: primary|standby
 *   START TIME: ...
 *   LABEL: ...
 *   START TIMELINE: N
 *   INCREMENTAL FROM LSN: X/X        (17+, incremental backups)
 *   INCREMENTAL FROM TLI: N
 */
#include "walagent/pg/recovery.h"

#include "walagent/base/file.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LABEL_MAX (64u * 1024)
#define SETTINGS_MAX (4u * 1024 * 1024)
#define SETTINGS_FILE "postgresql.auto.conf"
#define BEGIN_MARK "# begin of what walagent wrote"
#define END_MARK "# end of what walagent wrote"

/* ---- backup_label ---- */

static wa_status
label_corrupt(wa_error *err, const char *what)
{
    return wa_error_set(err, WA_CORRUPT, "backup_label is damaged: %s", what);
}

/* The rest of the first line that begins with `key`, at or after *from (moved behind it): the label
 * itself is free text, and the order keeps it from faking a line. NULL when there is none. */
static char *
next_field(const char **from, const char *key)
{
    for (const char *p = *from; *p != '\0';) {
        size_t n = strcspn(p, "\n");
        const char *after = p + n + (p[n] == '\n');
        if (strncmp(p, key, strlen(key)) == 0 && n >= strlen(key)) {
            *from = after;
            return wa_strndup(p + strlen(key), n - strlen(key));
        }
        p = after;
    }
    return NULL;
}

static bool
parse_tli(const char *text, wa_tli *ret)
{
    uint64_t tli = 0;
    wa_error ignored = WA_ERROR_INIT;
    if (text == NULL || wa_parse_u64(text, &tli, &ignored) != WA_OK || tli == 0 || tli > UINT32_MAX)
        return false;
    *ret = (wa_tli)tli;
    return true;
}

static bool
parse_lsn(const char *text, wa_lsn *ret)
{
    wa_error ignored = WA_ERROR_INIT;
    return text != NULL && wa_lsn_parse(text, ret, &ignored) == WA_OK;
}

/* "X/X (file 000000010000000000000002)" */
static bool
parse_start(const char *text, wa_backup_label *label)
{
    const char *file = text != NULL ? strstr(text, " (file ") : NULL;
    if (file == NULL || strlen(file) != strlen(" (file )") + WA_SEGMENT_NAME - 1 ||
        !wa_str_ends(text, ")"))
        return false;
    WA_CLEANUP(wa_freep) char *lsn = wa_strndup(text, (size_t)(file - text));
    memcpy(label->start_segment, file + strlen(" (file "), WA_SEGMENT_NAME - 1);
    label->start_segment[WA_SEGMENT_NAME - 1] = '\0';
    return parse_lsn(lsn, &label->start_lsn) &&
           wa_wal_file_kind_of(label->start_segment) == WA_WAL_SEGMENT;
}

static wa_status
parse_incremental(const char *p, wa_backup_label *label, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *lsn = next_field(&p, "INCREMENTAL FROM LSN: ");
    if (lsn == NULL)
        return WA_OK;
    WA_CLEANUP(wa_freep) char *tli = next_field(&p, "INCREMENTAL FROM TLI: ");
    if (!parse_lsn(lsn, &label->incremental_from) || !parse_tli(tli, &label->incremental_from_tli))
        return label_corrupt(err, "INCREMENTAL FROM");
    return WA_OK;
}

wa_status
wa_backup_label_parse(const char *text, size_t len, wa_backup_label *ret, wa_error *err)
{
    if (len > LABEL_MAX || memchr(text, '\0', len) != NULL)
        return label_corrupt(err, "it is no text of this size");
    WA_CLEANUP(wa_freep) char *copy = wa_strndup(text, len);
    const char *p = copy;
    wa_backup_label out = {0};
    WA_CLEANUP(wa_freep) char *start = next_field(&p, "START WAL LOCATION: ");
    if (!parse_start(start, &out))
        return label_corrupt(err, "START WAL LOCATION");
    WA_CLEANUP(wa_freep) char *checkpoint = next_field(&p, "CHECKPOINT LOCATION: ");
    if (!parse_lsn(checkpoint, &out.checkpoint))
        return label_corrupt(err, "CHECKPOINT LOCATION");
    WA_CLEANUP(wa_freep) char *from = next_field(&p, "BACKUP FROM: ");
    if (from == NULL || (strcmp(from, "primary") != 0 && strcmp(from, "standby") != 0))
        return label_corrupt(err, "BACKUP FROM");
    out.from_standby = strcmp(from, "standby") == 0;
    WA_CLEANUP(wa_freep) char *tli = next_field(&p, "START TIMELINE: ");
    uint64_t file_tli = 0;
    if (!parse_tli(tli, &out.start_tli) || !wa_parse_hex(out.start_segment, 8, &file_tli) ||
        file_tli != out.start_tli)
        return label_corrupt(err, "START TIMELINE");
    WA_TRY(parse_incremental(p, &out, err));
    *ret = out;
    return WA_OK;
}

/* ---- settings ---- */

static bool
is_name_char(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || (c & 0x80) != 0;
}

/* identifier[.identifier...] */
static bool
is_parameter_name(const char *name)
{
    for (const char *p = name;; p++) {
        if (!is_name_char(*p) || isdigit((unsigned char)*p) || *p == '$')
            return false;
        while (is_name_char(*p))
            p++;
        if (*p == '\0')
            return true;
        if (*p != '.')
            return false;
    }
}

wa_status
wa_setting_line(const char *name, const char *value, char **ret, wa_error *err)
{
    if (!is_parameter_name(name))
        return wa_error_set(err, WA_INVALID, "\"%s\" is not the name of a parameter", name);
    if (strpbrk(value, "\r\n") != NULL)
        return wa_error_set(err, WA_INVALID, "value of \"%s\" must not contain a newline", name);
    char *out = wa_malloc(strlen(name) + 2 * strlen(value) + sizeof " = ''");
    char *p = stpcpy(stpcpy(out, name), " = '");
    for (; *value != '\0'; value++) {
        if (*value == '\'' || *value == '\\')
            *p++ = *value;
        *p++ = *value;
    }
    *p++ = '\'';
    *p = '\0';
    *ret = out;
    return WA_OK;
}

/* Settings of an earlier recovery that would contradict or outlive ours. */
static bool
is_recovery_setting(const char *name)
{
    static const char *const names[] = {"restore_command",         "recovery_end_command",
                                        "archive_cleanup_command", "recovery_min_apply_delay",
                                        "primary_conninfo",        "primary_slot_name",
                                        "promote_trigger_file"};
    if (strncasecmp(name, "recovery_target", strlen("recovery_target")) == 0)
        return true;
    for (size_t i = 0; i < WA_ARRAY_SIZE(names); i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

static bool
is_replaced(const char *line, const wa_strv *pairs)
{
    const char *start = line + strspn(line, " \t\r\f\v");
    size_t n = 0;
    while (is_name_char(start[n]) || start[n] == '.')
        n++;
    WA_CLEANUP(wa_freep) char *name = wa_strndup(start, n);
    if (is_recovery_setting(name))
        return true;
    for (size_t i = 0; i + 1 < pairs->count; i += 2)
        if (strcasecmp(name, pairs->items[i]) == 0)
            return true;
    return false;
}

/* The old text without our earlier block and what is replaced now. */
static wa_status
keep_other_settings(const char *old, const wa_strv *pairs, wa_buf *out, wa_error *err)
{
    bool ours = false;
    for (const char *p = old; *p != '\0';) {
        size_t n = strcspn(p, "\n");
        WA_CLEANUP(wa_freep) char *line = wa_strndup(p, n);
        p += n + (p[n] == '\n');
        if (strcmp(line, END_MARK) == 0 || strcmp(line, BEGIN_MARK) == 0) {
            /* Without an end the mark alone goes: what follows may be somebody else's. */
            ours = strcmp(line, BEGIN_MARK) == 0 && strstr(p, END_MARK) != NULL;
            continue;
        }
        if (ours || is_replaced(line, pairs))
            continue;
        WA_TRY(wa_buf_append(out, line, n, err));
        WA_TRY(wa_buf_append(out, "\n", 1, err));
    }
    return WA_OK;
}

static wa_status
append_ours(const wa_strv *pairs, wa_buf *out, wa_error *err)
{
    if (pairs->count == 0)
        return WA_OK;
    WA_TRY(wa_buf_append(out, BEGIN_MARK "\n", strlen(BEGIN_MARK "\n"), err));
    for (size_t i = 0; i < pairs->count; i += 2) {
        WA_CLEANUP(wa_freep) char *line = NULL;
        WA_TRY(wa_setting_line(pairs->items[i], pairs->items[i + 1], &line, err));
        WA_TRY(wa_buf_append(out, line, strlen(line), err));
        WA_TRY(wa_buf_append(out, "\n", 1, err));
    }
    return wa_buf_append(out, END_MARK "\n", strlen(END_MARK "\n"), err);
}

wa_status
wa_settings_write(const char *data_dir, const wa_strv *pairs, wa_error *err)
{
    WA_ASSERT(pairs->count % 2 == 0);
    WA_CLEANUP(wa_freep) char *path = wa_path_join(data_dir, SETTINGS_FILE);
    WA_CLEANUP(wa_buf_done) wa_buf old = WA_BUF_INIT(SETTINGS_MAX);
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(2 * SETTINGS_MAX);
    struct stat st;
    mode_t mode = stat(path, &st) == 0 ? st.st_mode & 0777 : 0600;
    wa_status status = wa_file_read(path, SETTINGS_MAX, &old, err);
    if (status != WA_OK && status != WA_NOT_FOUND)
        return status;
    WA_TRY(keep_other_settings(wa_buf_str(&old), pairs, &text, err));
    WA_TRY(append_ours(pairs, &text, err));
    return wa_file_write(path, wa_buf_str(&text), text.len, mode, WA_WRITE_REPLACE, err);
}

char *
wa_shell_quote(const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-./:=@%+,";
    if (word[0] != '\0' && word[strspn(word, plain)] == '\0')
        return wa_strdup(word);
    char *out = wa_malloc(4 * strlen(word) + 3);
    char *p = out;
    *p++ = '\'';
    for (; *word != '\0'; word++) {
        if (*word == '\'')
            p = stpcpy(p, "'\\''");
        else
            *p++ = *word;
    }
    *p++ = '\'';
    *p = '\0';
    return out;
}
