/*
 * man.c - man pages in troff: one a command and walagent(1) from the tables of the parser,
 * walagent.conf(5) from the table of the configuration.
 */
#include "cmd_internal.h"

#include "walagent/base/file.h"

#include <errno.h>
#include <string.h>

/* Text for troff: backslashes and leading dots or quotes must not be taken for requests. */
static void
man_text(FILE *out, const char *text)
{
    bool line_start = true;
    for (const char *p = text; *p != '\0'; p++) {
        if (line_start && (*p == '.' || *p == '\''))
            fputs("\\&", out);
        if (*p == '\\')
            fputs("\\e", out);
        else if (*p == '-')
            fputs("\\-", out);
        else
            fputc(*p, out);
        line_start = *p == '\n';
    }
}

static void
man_paragraphs(FILE *out, const char *text)
{
    const char *p = text;
    while (p != NULL && *p != '\0') {
        const char *end = strstr(p, "\n\n");
        WA_CLEANUP(wa_freep)
        char *one = end != NULL ? wa_strndup(p, (size_t)(end - p)) : wa_strdup(p);
        fputs(one[0] == ' ' ? ".PP\n.nf\n" : ".PP\n", out);
        man_text(out, one);
        fputs(one[0] == ' ' ? "\n.fi\n" : "\n", out);
        p = end != NULL ? end + 2 : NULL;
    }
}

static void
man_option(FILE *out, const wa_command_option *o)
{
    fputs(".TP\n", out);
    if (o->letter)
        fprintf(out, "\\fB\\-%c\\fR, ", o->letter);
    fputs("\\fB\\-\\-", out);
    man_text(out, o->name);
    fputs("\\fR", out);
    if (o->value != NULL)
        fprintf(out, " \\fI%s\\fR", o->value);
    fputc('\n', out);
    man_text(out, o->doc);
    fputc('\n', out);
}

static void
man_preformatted(FILE *out, const char *title, const char *text)
{
    if (text == NULL)
        return;
    fprintf(out, ".SH %s\n.nf\n", title);
    man_text(out, text);
    fputs("\n.fi\n", out);
}

static void
man_program(FILE *out)
{
    fputs(".TH WALAGENT 1 \"\" \"walagent " WA_VERSION
          "\" \"walagent\"\n.SH NAME\nwalagent \\- keeps a PostgreSQL "
          "cluster's history in object storage and can prove it\n.SH SYNOPSIS\n.B "
          "walagent\nCOMMAND [OPTION]...\n"
          ".SH COMMANDS\n",
          out);
    for (size_t i = 0; wa_commands[i] != NULL; i++) {
        fputs(".TP\n\\fBwalagent\\-", out);
        man_text(out, wa_commands[i]->name);
        fputs("\\fR(1)\n", out);
        man_text(out, wa_commands[i]->summary);
        fputc('\n', out);
    }
    fputs(".SH EXIT STATUS\n.nf\n0   done\n1   failed\n2   usage or configuration\n3   unreachable "
          "target, hole or damage\n4   repository or server not reached in time\n5   the archive "
          "holds other content under this name\n.fi\n"
          ".SH SEE ALSO\nwalagent.conf(5)\n",
          out);
}

void
wa_command_man(const wa_command *command, FILE *out)
{
    if (command == NULL) {
        man_program(out);
        return;
    }
    fputs(".TH WALAGENT\\-", out);
    for (const char *p = command->name; *p != '\0'; p++)
        fputc(*p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p, out);
    fputs(" 1 \"\" \"walagent " WA_VERSION "\" \"walagent\"\n.SH NAME\nwalagent\\-", out);
    man_text(out, command->name);
    fputs(" \\- ", out);
    man_text(out, command->summary);
    fprintf(out, "\n.SH SYNOPSIS\n.B walagent %s\n[OPTION]... %s\n.SH DESCRIPTION\n", command->name,
            command->operands ? command->operands : "");
    man_paragraphs(out, command->description);
    fputs(".SH OPTIONS\n", out);
    for (const wa_command_option *o = command->options; o != NULL && o->name != NULL; o++)
        man_option(out, o);
    for (const wa_command_option *o = wa_common_options; o->name != NULL; o++)
        man_option(out, o);
    man_preformatted(out, "EXIT STATUS", command->exit_codes);
    man_preformatted(out, "EXAMPLES", command->example);
    fputs(".SH SEE ALSO\nwalagent(1), walagent.conf(5)\n", out);
}

static void
man_setting(FILE *out, const wa_option *o)
{
    fputs(".TP\n\\fB", out);
    man_text(out, o->key);
    fputs("\\fR", out);
    if (o->limits != NULL) {
        fputs(" (", out);
        man_text(out, o->limits);
        fputs(")", out);
    }
    fputc('\n', out);
    man_text(out, o->doc);
    if (o->secret)
        fprintf(out, " Secret; %s_file names a file whose first line is the value.", o->key);
    if (o->fallback != NULL && o->fallback[0] != '\0') {
        fputs(" Default: ", out);
        man_text(out, o->fallback);
        fputc('.', out);
    }
    fputs(o->reloadable ? "\n" : " A change needs a restart of the agent.\n", out);
}

void
wa_config_man(FILE *out)
{
    fputs(
        ".TH WALAGENT.CONF 5 \"\" \"walagent " WA_VERSION
        "\" \"walagent\"\n.SH NAME\nwalagent.conf \\- the archive of one PostgreSQL cluster\n"
        ".SH DESCRIPTION\n"
        "One INI file a cluster: \\-c FILE, else $WALAGENT_CONFIG, else "
        "/etc/walagent/walagent.conf. One key a line. A comment begins a line with # or ;, or "
        "follows white space outside double quotes. Quoted values take \\e\" and \\e\\e.\n.PP\n"
        "Every key has an environment twin WALAGENT_<SECTION>_<KEY>, which wins over the file "
        "(for a further repository: WALAGENT_REPOSITORY__<NAME>__<KEY>). Sizes take B, kB, MB, "
        "GB, TB, durations ms, s, min, h, d.\n.PP\n"
        "\\fBwalagent config check\\fR checks the file, \\fBwalagent config show\\fR prints what "
        "is in effect and where it comes from, \\fBwalagent config sample\\fR prints an annotated "
        "file.\n",
        out);
    const char *section = "";
    for (const wa_option *o = wa_options; o->section != NULL; o++) {
        if (strcmp(section, o->section) != 0)
            fprintf(out, ".SH [%s]\n", o->section);
        section = o->section;
        man_setting(out, o);
    }
    fputs(".SH SEE ALSO\nwalagent(1), walagent\\-config(1)\n", out);
}

/* command NULL: walagent(1), or walagent.conf(5) in section 5. */
static wa_status
write_page(const char *dir, int section, const wa_command *command, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *man_dir = wa_format("%s/man%d", dir, section);
    WA_TRY(wa_mkdir_p(man_dir, 0755, err));
    WA_CLEANUP(wa_freep)
    char *path = wa_format("%s/walagent%s%s.%d", man_dir,
                           section == 5      ? ".conf"
                           : command != NULL ? "-"
                                             : "",
                           command != NULL ? command->name : "", section);
    FILE *out = fopen(path, "we");
    if (out == NULL)
        return wa_error_errno(err, errno, "could not create file \"%s\": %m", path);
    if (section == 5)
        wa_config_man(out);
    else
        wa_command_man(command, out);
    if (fclose(out) != 0)
        return wa_error_errno(err, errno, "could not write file \"%s\": %m", path);
    return WA_OK;
}

wa_status
wa_write_man_pages(const char *dir, wa_error *err)
{
    WA_TRY(write_page(dir, 5, NULL, err));
    WA_TRY(write_page(dir, 1, NULL, err));
    for (size_t i = 0; wa_commands[i] != NULL; i++)
        WA_TRY(write_page(dir, 1, wa_commands[i], err));
    return WA_OK;
}
