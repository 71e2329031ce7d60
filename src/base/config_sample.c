/*
 * config_sample.c - the annotated sample file and the reference page's tables.
 */
#include "walagent/base/config.h"
#include "walagent/base/str.h"

#include <string.h>

#define COMMENT_WIDTH 96

static const struct {
    const char *name;
    const char *doc;
} sections[] = {
    {"cluster", "The PostgreSQL cluster."},
    {"repository", "Where the archive is. [repository NAME] adds a mirror of it: see \"walagent "
                   "mirror --help\"."},
    {"archive", "WAL: the stream and the two hooks."},
    {"backup", "Base backups."},
    {"retention", "What \"walagent expire\" keeps."},
    {"agent", "The process that \"walagent run\" starts."},
};

static const char *
type_name(wa_option_type type)
{
    switch (type) {
    case WA_OPT_STRING:
        return "text";
    case WA_OPT_PATH:
        return "path";
    case WA_OPT_URL:
        return "URL";
    case WA_OPT_BOOL:
        return "on or off";
    case WA_OPT_INT:
        return "number";
    case WA_OPT_SIZE:
        return "size";
    case WA_OPT_DURATION:
        return "duration";
    case WA_OPT_ENUM:
        return "one of";
    }
    return "";
}

/* Text as "# ..." lines, broken between words. */
static void
put_comment(wa_buf *out, const char *text)
{
    while (*text != '\0') {
        size_t len = strlen(text);
        if (len > COMMENT_WIDTH) {
            len = COMMENT_WIDTH;
            while (len > 0 && text[len] != ' ')
                len--;
        }
        size_t end = len;
        while (end > 0 && text[end - 1] == ' ')
            end--;
        wa_buf_printf(out, "# %.*s\n", (int)end, text);
        text += len;
        while (*text == ' ')
            text++;
    }
}

/* The limits "MIN..MAX" or "MIN.." in words. */
static char *
range(const wa_option *o)
{
    const char *dots = strstr(o->limits, "..");
    WA_ASSERT(dots != NULL);
    int len = (int)(dots - o->limits);
    if (dots[2] != '\0')
        return wa_format("A %s from %.*s to %s. ", type_name(o->type), len, o->limits, dots + 2);
    return wa_format("A %s, at least %.*s. ", type_name(o->type), len, o->limits);
}

static void
put_facts(wa_buf *out, const wa_option *o)
{
    WA_CLEANUP(wa_freep) char *form = NULL;
    if (o->type == WA_OPT_ENUM)
        form = wa_format("One of %s. ", o->limits);
    else if (o->limits != NULL && o->type != WA_OPT_URL)
        form = range(o);
    else if (o->secret)
        form = wa_format("Or %s_file: a file whose first line is the value. ", o->key);
    WA_CLEANUP(wa_freep)
    char *facts = wa_format("%s%s", form != NULL ? form : "",
                            o->reloadable ? "" : "A change needs a restart.");
    put_comment(out, facts);
}

static void
put_option(wa_buf *out, const wa_option *o)
{
    put_comment(out, o->doc);
    put_facts(out, o);
    const char *value = o->fallback != NULL ? o->fallback : o->example;
    wa_buf_printf(out, "#%s =%s%s\n\n", o->key, value != NULL ? " " : "",
                  value != NULL ? value : "");
}

void
wa_config_write_sample(wa_buf *out)
{
    wa_buf_puts(out, "# walagent.conf - the archive of one PostgreSQL cluster.\n"
                     "#\n"
                     "# Lines that begin with \"#\" directly before a key show its default, or an "
                     "example where there\n"
                     "# is none. Every key has an environment twin WALAGENT_<SECTION>_<KEY> that "
                     "wins over the file.\n"
                     "# Sizes take B, kB, MB, GB, TB; durations take ms, s, min, h, d. \"walagent "
                     "config check\" checks\n"
                     "# the file, \"walagent config show\" prints what is in effect and where it "
                     "comes from.\n\n");
    for (size_t s = 0; s < WA_ARRAY_SIZE(sections); s++) {
        wa_buf_printf(out, "# %s\n[%s]\n\n", sections[s].doc, sections[s].name);
        for (const wa_option *o = wa_options; o->section != NULL; o++)
            if (strcmp(o->section, sections[s].name) == 0)
                put_option(out, o);
    }
    out->data[--out->len] = '\0'; /* no empty line at the end */
}

/* In a Markdown table a '|' ends the cell. */
static void
put_cell(wa_buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '|')
            wa_buf_putc(out, '\\');
        wa_buf_putc(out, *text);
    }
}

static void
put_row(wa_buf *out, const wa_option *o)
{
    wa_buf_printf(out, "| `%s` | %s", o->key, type_name(o->type));
    if (o->limits != NULL) {
        wa_buf_putc(out, ' ');
        put_cell(out, o->limits);
    }
    wa_buf_puts(out, " | ");
    if (o->fallback != NULL)
        wa_buf_printf(out, "`%s`", o->fallback);
    wa_buf_printf(out, " | %s | ", o->reloadable ? "yes" : "no");
    put_cell(out, o->doc);
    if (o->secret)
        wa_buf_printf(out, " Secret; `%s_file` names a file that holds it.", o->key);
    wa_buf_puts(out, " |\n");
}

void
wa_config_write_reference(wa_buf *out)
{
    for (size_t s = 0; s < WA_ARRAY_SIZE(sections); s++) {
        wa_buf_printf(out, "%s## [%s]\n\n%s\n\n", s > 0 ? "\n" : "", sections[s].name,
                      sections[s].doc);
        wa_buf_puts(out, "| key | value | default | reload | meaning |\n|---|---|---|---|---|\n");
        for (const wa_option *o = wa_options; o->section != NULL; o++)
            if (strcmp(o->section, sections[s].name) == 0)
                put_row(out, o);
    }
}
