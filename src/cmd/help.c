/*
 * help.c - --help, from the same tables as the parser.
 */
#include "cmd_internal.h"

#include <string.h>

#define TEXT_WIDTH 78
#define OPTION_COLUMN 30

/* Word-wrap one paragraph. */
static void
print_wrapped(FILE *out, const char *text, size_t indent, size_t column)
{
    size_t at = column;
    const char *p = text;
    while (*p != '\0') {
        size_t word = strcspn(p, " \n");
        if (at > indent && at + 1 + word > TEXT_WIDTH) {
            fprintf(out, "\n%*s", (int)indent, "");
            at = indent;
        } else if (at > indent) {
            fputc(' ', out);
            at++;
        }
        fwrite(p, 1, word, out);
        at += word;
        p += word;
        p += strspn(p, " \n");
    }
    fputc('\n', out);
}

/* Paragraphs are separated by an empty line; one that begins with a space is printed as it is. */
static void
print_paragraphs(FILE *out, const char *text)
{
    const char *p = text;
    while (p != NULL && *p != '\0') {
        const char *end = strstr(p, "\n\n");
        WA_CLEANUP(wa_freep)
        char *one = end != NULL ? wa_strndup(p, (size_t)(end - p)) : wa_strdup(p);
        if (one[0] == ' ')
            fprintf(out, "%s\n", one);
        else
            print_wrapped(out, one, 0, 0);
        p = end != NULL ? end + 2 : NULL;
        if (p != NULL)
            fputc('\n', out);
    }
}

static void
print_option(FILE *out, const wa_command_option *o)
{
    char left[128];
    int len = snprintf(left, sizeof left, "  %c%c%s--%s%s%s", o->letter ? '-' : ' ',
                       o->letter ? o->letter : ' ', o->letter ? ", " : "  ", o->name,
                       o->value ? " " : "", o->value ? o->value : "");
    fputs(left, out);
    size_t column = (size_t)len;
    if (column + 2 > OPTION_COLUMN) {
        fputc('\n', out);
        column = 0;
    }
    fprintf(out, "%*s", (int)(OPTION_COLUMN - column), "");
    print_wrapped(out, o->doc, OPTION_COLUMN, OPTION_COLUMN);
}

void
wa_command_help(const wa_command *command, FILE *out)
{
    fprintf(out, "walagent %s - %s\n\nUsage: walagent %s [OPTION]...%s%s\n\n", command->name,
            command->summary, command->name, command->operands ? " " : "",
            command->operands ? command->operands : "");
    print_paragraphs(out, command->description);
    fputs("\nOptions:\n", out);
    for (const wa_command_option *o = command->options; o != NULL && o->name != NULL; o++)
        print_option(out, o);
    for (const wa_command_option *o = wa_common_options; o->name != NULL; o++)
        print_option(out, o);
    if (command->exit_codes != NULL)
        fprintf(out, "\nExit status:\n%s\n", command->exit_codes);
    if (command->example != NULL)
        fprintf(out, "\nExamples:\n%s\n", command->example);
}

void
wa_program_help(FILE *out)
{
    fputs("walagent - keeps a PostgreSQL cluster's history in object storage and can prove it\n\n"
          "Usage: walagent COMMAND [OPTION]...\n\nCommands:\n",
          out);
    for (size_t i = 0; wa_commands[i] != NULL; i++)
        fprintf(out, "  %-14s %s\n", wa_commands[i]->name, wa_commands[i]->summary);
    fputs("\n\"walagent COMMAND --help\" shows a command's options; \"walagent --version\" the "
          "version.\n"
          "Exit status: 0 done, 1 failed, 2 usage or configuration, 3 unreachable target, hole or "
          "damage,\n"
          "4 repository or server not reached in time, 5 the archive holds other content.\n",
          out);
}
