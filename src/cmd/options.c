/*
 * options.c - parse a command's arguments by its table.
 */
#include "cmd_internal.h"

#include <string.h>

#define MAX_NAMES 64

const wa_command_option wa_common_options[] = {
    {"config", 'c', WA_ARG_VALUE, "FILE",
     "Configuration file (default: $WALAGENT_CONFIG, else /etc/walagent/walagent.conf)."},
    {"quiet", 'q', WA_ARG_FLAG, NULL, "No progress and no notices."},
    {"verbose", 'v', WA_ARG_FLAG, NULL, "Say more about what is done."},
    {"help", 'h', WA_ARG_FLAG, NULL, "Show this help."},
    {NULL, 0, WA_ARG_FLAG, NULL, NULL},
};

static const wa_command_option *
find_in(const wa_command_option *table, const char *name, size_t len, char letter)
{
    for (const wa_command_option *o = table; o != NULL && o->name != NULL; o++) {
        if (name != NULL && strlen(o->name) == len && strncmp(o->name, name, len) == 0)
            return o;
        if (name == NULL && o->letter != 0 && o->letter == letter)
            return o;
    }
    return NULL;
}

static const wa_command_option *
find_option(const wa_command *command, const char *name, size_t len, char letter)
{
    const wa_command_option *o = find_in(command->options, name, len, letter);
    return o != NULL ? o : find_in(wa_common_options, name, len, letter);
}

static wa_status
unknown_option(const wa_command *command, const char *arg, wa_error *err)
{
    const char *names[MAX_NAMES];
    size_t count = 0;
    const wa_command_option *tables[] = {command->options, wa_common_options};
    for (size_t t = 0; t < WA_ARRAY_SIZE(tables); t++)
        for (const wa_command_option *o = tables[t];
             o != NULL && o->name != NULL && count < MAX_NAMES; o++)
            names[count++] = o->name;
    WA_CLEANUP(wa_freep)
    char *word = wa_strndup(arg + strspn(arg, "-"), strcspn(arg + strspn(arg, "-"), "="));
    const char *nearest = wa_nearest(word, names, count);
    wa_error_set(err, WA_INVALID, "unknown option \"%s\" for \"walagent %s\"", arg, command->name);
    if (nearest != NULL)
        return wa_error_hint(err, "Did you mean \"--%s\"? Try \"walagent %s --help\".", nearest,
                             command->name);
    return wa_error_hint(err, "Try \"walagent %s --help\".", command->name);
}

static void
add_parsed(wa_context *ctx, const wa_command_option *option, const char *value)
{
    ctx->parsed = wa_reallocarray(ctx->parsed, ctx->parsed_count + 1, sizeof *ctx->parsed);
    ctx->parsed[ctx->parsed_count++] = (wa_parsed){option, value};
}

static wa_status
take_value(const wa_command_option *option, const char *inline_value, int argc,
           const char *const *argv, int *i, const char **ret, wa_error *err)
{
    if (option->kind == WA_ARG_FLAG) {
        if (inline_value != NULL)
            return wa_error_set(err, WA_INVALID, "option \"--%s\" takes no value", option->name);
        *ret = NULL;
        return WA_OK;
    }
    if (inline_value != NULL) {
        *ret = inline_value;
        return WA_OK;
    }
    if (*i + 1 >= argc) {
        wa_error_set(err, WA_INVALID, "option \"--%s\" needs a value", option->name);
        return wa_error_hint(err, "Write \"--%s %s\".", option->name, option->value);
    }
    *ret = argv[++*i];
    return WA_OK;
}

static wa_status
parse_long(const wa_command *command, int argc, const char *const *argv, int *i, wa_context *ctx,
           wa_error *err)
{
    const char *name = argv[*i] + 2;
    size_t len = strcspn(name, "=");
    const wa_command_option *option = find_option(command, name, len, 0);
    if (option == NULL)
        return unknown_option(command, argv[*i], err);
    const char *value = NULL;
    WA_TRY(
        take_value(option, name[len] == '=' ? name + len + 1 : NULL, argc, argv, i, &value, err));
    add_parsed(ctx, option, value);
    return WA_OK;
}

static wa_status
parse_short(const wa_command *command, int argc, const char *const *argv, int *i, wa_context *ctx,
            wa_error *err)
{
    const char *arg = argv[*i];
    for (const char *p = arg + 1; *p != '\0'; p++) {
        const wa_command_option *option = find_option(command, NULL, 0, *p);
        if (option == NULL)
            return unknown_option(command, arg, err);
        const char *value = NULL;
        bool takes_rest = option->kind != WA_ARG_FLAG && p[1] != '\0';
        WA_TRY(take_value(option, takes_rest ? p + 1 : NULL, argc, argv, i, &value, err));
        add_parsed(ctx, option, value);
        if (option->kind != WA_ARG_FLAG)
            break;
    }
    return WA_OK;
}

static wa_status
check_operands(const wa_command *command, const wa_context *ctx, wa_error *err)
{
    if (wa_arg_flag(ctx, "help"))
        return WA_OK;
    const char *operands = command->operands != NULL ? command->operands : "no operand";
    if (ctx->operand_count < command->min_operands)
        wa_error_set(err, WA_INVALID, "\"walagent %s\" needs %s", command->name, operands);
    else if (ctx->operand_count > command->max_operands)
        wa_error_set(err, WA_INVALID, "unexpected argument \"%s\": \"walagent %s\" takes %s",
                     ctx->operands[command->max_operands], command->name, operands);
    else
        return WA_OK;
    return wa_error_hint(err, "Try \"walagent %s --help\".", command->name);
}

wa_status
wa_command_parse(const wa_command *command, int argc, const char *const *argv, wa_context *ctx,
                 wa_error *err)
{
    const char **operands = wa_calloc((size_t)argc + 1, sizeof *operands);
    ctx->operands = operands;
    bool only_operands = false;
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        if (!only_operands && strcmp(arg, "--") == 0)
            only_operands = true;
        else if (!only_operands && wa_str_starts(arg, "--"))
            WA_TRY(parse_long(command, argc, argv, &i, ctx, err));
        else if (!only_operands && arg[0] == '-' && arg[1] != '\0')
            WA_TRY(parse_short(command, argc, argv, &i, ctx, err));
        else
            operands[ctx->operand_count++] = arg;
    }
    ctx->quiet = wa_arg_flag(ctx, "quiet");
    ctx->verbose = wa_arg_flag(ctx, "verbose");
    ctx->json = wa_arg_flag(ctx, "json");
    return check_operands(command, ctx, err);
}

bool
wa_arg_flag(const wa_context *ctx, const char *name)
{
    for (size_t i = 0; i < ctx->parsed_count; i++)
        if (strcmp(ctx->parsed[i].option->name, name) == 0)
            return true;
    return false;
}

const char *
wa_arg_value(const wa_context *ctx, const char *name)
{
    for (size_t i = ctx->parsed_count; i > 0; i--)
        if (strcmp(ctx->parsed[i - 1].option->name, name) == 0)
            return ctx->parsed[i - 1].value;
    return NULL;
}

void
wa_arg_list(const wa_context *ctx, const char *name, wa_strv *ret)
{
    for (size_t i = 0; i < ctx->parsed_count; i++)
        if (strcmp(ctx->parsed[i].option->name, name) == 0)
            wa_strv_add(ret, ctx->parsed[i].value);
}
