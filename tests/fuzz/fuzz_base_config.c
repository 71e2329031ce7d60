/*
 * fuzz_base_config.c - any bytes as a configuration file: accepted or refused with a message.
 */
#include "walagent/base/config.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every value that was accepted can be asked for by its type. */
static void
read_everything(const wa_config *c, const char *section)
{
    for (const wa_option *o = wa_options; o->section != NULL; o++) {
        if (strncmp(section, o->section, strlen(o->section)) != 0)
            continue;
        WA_ASSERT(wa_config_origin(c, section, o->key) != NULL);
        if (o->type == WA_OPT_BOOL)
            (void)wa_config_bool(c, section, o->key);
        else if (o->type == WA_OPT_INT)
            WA_ASSERT(wa_config_int(c, section, o->key) >= 0);
        else if (o->type == WA_OPT_SIZE)
            (void)wa_config_size(c, section, o->key);
        else if (o->type == WA_OPT_DURATION)
            (void)wa_config_duration_ms(c, section, o->key);
        else
            (void)wa_config_string(c, section, o->key);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const sections[] = {"cluster", "repository", "archive",
                                           "backup",  "retention",  "agent"};
    /* KEY_file would read files of this machine. */
    if (memmem(data, size, "_file", 5) != NULL)
        return 0;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_config_freep) wa_config *c = NULL;
    if (wa_config_parse("fuzz", (const char *)data, size, &c, &err) != WA_OK) {
        WA_ASSERT(c == NULL && err.status == WA_INVALID && err.message[0] != '\0');
        return 0;
    }
    for (size_t i = 0; i < WA_ARRAY_SIZE(sections); i++)
        read_everything(c, sections[i]);
    for (const char *const *name = wa_config_repositories(c); *name != NULL; name++) {
        WA_CLEANUP(wa_freep) char *section = wa_format("repository %s", *name);
        read_everything(c, section);
    }
    return 0;
}
