/*
 * config.c - walagent config show|check: the effective configuration, and where each value comes
 * from.
 */
#include "commands_internal.h"

#include <string.h>

static const char *
shown_value(const wa_config *config, const char *section, const wa_option *o)
{
    const char *value = wa_config_string(config, section, o->key);
    if (value == NULL || value[0] == '\0')
        return "";
    return o->secret ? "********" : value;
}

static json_t *
section_json(const wa_config *config, const char *section, const char *table)
{
    json_t *out = json_object();
    for (const wa_option *o = wa_options; o->section != NULL; o++) {
        if (strcmp(o->section, table) != 0)
            continue;
        json_t *one = json_object();
        wa_json_set_string(one, "value", shown_value(config, section, o));
        wa_json_set_string(one, "origin", wa_config_origin(config, section, o->key));
        wa_json_set(out, o->key, one);
    }
    return out;
}

static void
show_section(const wa_config *config, const char *section, const char *table)
{
    printf("[%s]\n", section);
    WA_CLEANUP(wa_table_freep) wa_table *t = wa_table_new(2);
    for (const wa_option *o = wa_options; o->section != NULL; o++) {
        if (strcmp(o->section, table) != 0)
            continue;
        WA_CLEANUP(wa_freep)
        char *left = wa_format("%s = %s", o->key, shown_value(config, section, o));
        WA_CLEANUP(wa_freep)
        char *right = wa_format("# %s", wa_config_origin(config, section, o->key));
        wa_table_cell(t, left);
        wa_table_cell(t, right);
    }
    wa_table_print(t, stdout);
    putchar('\n');
}

/* Sections in the order of the table, each once; further repositories behind the first. */
static void
each_section(const wa_config *config, json_t *json)
{
    const char *last = "";
    for (const wa_option *o = wa_options; o->section != NULL; o++) {
        if (strcmp(o->section, last) == 0)
            continue;
        last = o->section;
        if (json != NULL)
            wa_json_set(json, last, section_json(config, last, last));
        else
            show_section(config, last, last);
    }
    const char *const *names = wa_config_repositories(config);
    for (size_t i = 0; names[i] != NULL; i++) {
        WA_CLEANUP(wa_freep) char *section = wa_format("repository %s", names[i]);
        if (json != NULL)
            wa_json_set(json, section, section_json(config, section, "repository"));
        else
            show_section(config, section, "repository");
    }
}

static wa_status
run(wa_context *ctx, wa_error *err)
{
    const char *verb = ctx->operands[0];
    if (strcmp(verb, "sample") == 0) {
        WA_CLEANUP(wa_buf_done) wa_buf out = WA_BUF_INIT(1024 * 1024);
        wa_config_write_sample(&out);
        fputs(wa_buf_str(&out), stdout);
        return WA_OK;
    }
    if (strcmp(verb, "show") != 0 && strcmp(verb, "check") != 0) {
        wa_error_set(err, WA_INVALID, "unknown verb \"%s\" for \"walagent config\"", verb);
        return wa_error_hint(err, "Say \"walagent config show\", \"walagent config check\" or "
                                  "\"walagent config sample\".");
    }
    const wa_config *config = NULL;
    WA_TRY(wa_context_config(ctx, &config, err));
    if (strcmp(verb, "check") == 0) {
        const char *path = wa_config_path(config);
        if (!ctx->quiet)
            printf("%s: ok\n", path != NULL ? path : "environment");
        return WA_OK;
    }
    if (!ctx->json) {
        each_section(config, NULL);
        return WA_OK;
    }
    WA_CLEANUP(wa_json_freep) json_t *json = json_object();
    each_section(config, json);
    wa_print_json(json);
    return WA_OK;
}

static const wa_command_option options[] = {
    {"json", 0, WA_ARG_FLAG, NULL, "JSON: section, key, {value, origin}."},
    {NULL, 0, WA_ARG_FLAG, NULL, NULL},
};

const wa_command wa_command_config = {
    .name = "config",
    .summary = "show or check the configuration",
    .operands = "show|check|sample",
    .min_operands = 1,
    .max_operands = 1,
    .options = options,
    .description = "show prints every setting in force and where it comes from (default, file and "
                   "line, environment); secrets are masked. check only reads the configuration "
                   "and reports the first error. sample prints an annotated configuration file "
                   "with every setting and its default.",
    .example = "  walagent config show\n  walagent config check -c /etc/walagent/main.conf\n  "
               "walagent config sample > /etc/walagent/walagent.conf",
    .run = run,
};
