/*
 * config_ini.c - the lines of the configuration file.
 *
 *   line     = [ section | key "=" value ] [ comment ]
 *   section  = "[" word [ " " word ] "]"
 *   key      = letters, digits, "_"
 *   value    = quoted | bare
 *   quoted   = '"' any character, with \" and \\ for the two '"'
 *   bare     = the rest of the line without surrounding white space; '#' or ';' after white space
 *              begins a comment, except inside double quotes, which stay part of the value
 *   comment  = ("#" | ";") ...
 */
#include "config_internal.h"

#include "walagent/base/str.h"

#include <stdlib.h>
#include <string.h>

void
wa_ini_reader_done(wa_ini_reader *reader)
{
    wa_freep(&reader->section);
}

void
wa_ini_entry_done(wa_ini_entry *entry)
{
    wa_freep(&entry->section);
    wa_freep(&entry->key);
    wa_freep(&entry->value);
}

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static const char *
skip_blanks(const char *p)
{
    while (is_blank(*p))
        p++;
    return p;
}

static bool
ends_line(const char *p)
{
    return *p == '\0' || *p == '#' || *p == ';';
}

static bool
is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

static wa_status
refuse(const wa_ini_reader *r, wa_error *err, const char *what, const char *hint)
{
    wa_error_set(err, WA_INVALID, "%s line %zu: %s", r->name, r->line, what);
    return wa_error_hint(err, "%s", hint);
}

/* The next line as an owned string, without its end; NULL at the end of the text. */
static char *
next_line(wa_ini_reader *r)
{
    if (r->next == r->end)
        return NULL;
    const char *newline = memchr(r->next, '\n', (size_t)(r->end - r->next));
    const char *stop = newline != NULL ? newline : r->end;
    size_t len = (size_t)(stop - r->next);
    if (len > 0 && r->next[len - 1] == '\r')
        len--;
    char *line = wa_malloc(len + 1);
    memcpy(line, r->next, len);
    line[len] = '\0';
    for (char *nul = memchr(line, '\0', len); nul != NULL; nul = memchr(line, '\0', len))
        *nul = '\1'; /* so that it is seen, and refused, as a control character */
    r->next = newline != NULL ? newline + 1 : r->end;
    r->line++;
    return line;
}

/* "[word]" or "[word word]"; the section's canonical name has one space. */
static wa_status
read_section(wa_ini_reader *r, const char *p, wa_error *err)
{
    const char *first = skip_blanks(p + 1);
    const char *first_end = first;
    while (is_word(*first_end))
        first_end++;
    const char *second = skip_blanks(first_end);
    const char *second_end = second;
    while (is_word(*second_end))
        second_end++;
    const char *close = skip_blanks(second_end);
    if (first == first_end || *close != ']' || !ends_line(skip_blanks(close + 1)))
        return refuse(r, err, "invalid section header",
                      "Write [cluster], or [repository NAME] for a further repository; only a "
                      "comment may follow.");
    WA_CLEANUP(wa_freep) char *word = wa_strndup(first, (size_t)(first_end - first));
    WA_CLEANUP(wa_freep) char *name = wa_strndup(second, (size_t)(second_end - second));
    free(r->section);
    r->section = name[0] != '\0' ? wa_format("%s %s", word, name) : WA_TAKE(word);
    return WA_OK;
}

static wa_status
read_quoted(wa_ini_reader *r, const char *p, char **ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *value = wa_malloc(strlen(p));
    size_t len = 0;
    for (p++; *p != '"'; p++) {
        if (*p == '\\') {
            p++;
            if (*p != '"' && *p != '\\')
                return refuse(
                    r, err, "only \\\" and \\\\ may follow a backslash in quotes",
                    "Write \\\\ for a backslash, or leave the quotes out: there it stands "
                    "for itself.");
        }
        if (*p == '\0')
            return refuse(r, err, "the quoted value doesn't end",
                          "Close the double quote on the same line.");
        value[len++] = *p;
    }
    value[len] = '\0';
    if (!ends_line(skip_blanks(p + 1)))
        return refuse(r, err, "text after the quoted value",
                      "Put all of the value into the quotes; only a comment may follow.");
    *ret = WA_TAKE(value);
    return WA_OK;
}

static wa_status
read_bare(wa_ini_reader *r, const char *p, char **ret, wa_error *err)
{
    bool quoted = false;
    const char *end = p;
    for (const char *q = p; *q != '\0'; q++) {
        if (!quoted && ends_line(q) && (q == p || is_blank(q[-1])))
            break;
        if (*q == '"')
            quoted = !quoted;
        else if (quoted && *q == '\\' && (q[1] == '"' || q[1] == '\\'))
            q++;
        if (!is_blank(*q))
            end = q + 1;
    }
    if (quoted)
        return refuse(r, err, "the value has a double quote that isn't closed",
                      "Close it, or put the whole value into double quotes and write \\\" for "
                      "this one.");
    *ret = wa_strndup(p, (size_t)(end - p));
    return WA_OK;
}

static wa_status
read_pair(wa_ini_reader *r, const char *p, wa_ini_entry *ret, wa_error *err)
{
    const char *key = p;
    while (is_word(*p))
        p++;
    size_t key_len = (size_t)(p - key);
    p = skip_blanks(p);
    if (key_len == 0 || *p != '=')
        return refuse(r, err, "neither a section nor \"key = value\"",
                      "A line is [section] or key = value, or a comment that begins with '#' or "
                      "';'.");
    if (r->section == NULL) {
        WA_CLEANUP(wa_freep)
        char *what = wa_format("key \"%.*s\" before the first section", (int)key_len, key);
        return refuse(r, err, what, "Put a section such as [cluster] above it.");
    }
    p = skip_blanks(p + 1);
    char *value = NULL;
    WA_TRY(*p == '"' ? read_quoted(r, p, &value, err) : read_bare(r, p, &value, err));
    *ret = (wa_ini_entry){.section = wa_strdup(r->section),
                          .key = wa_strndup(key, key_len),
                          .value = value,
                          .line = r->line};
    return WA_OK;
}

static bool
has_control_character(const char *s)
{
    for (; *s != '\0'; s++)
        if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7F)
            return true;
    return false;
}

wa_status
wa_ini_next(wa_ini_reader *r, wa_ini_entry *ret, wa_error *err)
{
    if (r->line == 0 && r->end - r->next >= 3 && memcmp(r->next, "\xEF\xBB\xBF", 3) == 0)
        r->next += 3; /* editors on Windows begin with a byte order mark */
    for (;;) {
        WA_CLEANUP(wa_freep) char *line = next_line(r);
        if (line == NULL)
            return wa_error_set(err, WA_NOT_FOUND, "end of file");
        if (has_control_character(line))
            return refuse(
                r, err, "control character",
                "A configuration is plain text: is this the right file, and is it whole?");
        const char *p = skip_blanks(line);
        if (ends_line(p))
            continue;
        if (*p != '[')
            return read_pair(r, p, ret, err);
        WA_TRY(read_section(r, p, err));
        *ret = (wa_ini_entry){.section = wa_strdup(r->section), .line = r->line};
        return WA_OK;
    }
}
