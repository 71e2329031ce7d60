/*
 * config_env.c - the configuration's environment twins.
 *
 *   WALAGENT_<SECTION>_<KEY>                  WALAGENT_ARCHIVE_TAIL_INTERVAL
 *   WALAGENT_REPOSITORY__<NAME>__<KEY>        WALAGENT_REPOSITORY__OFF_SITE__URL  ("-" becomes "_")
 *   ..._FILE for a secret
 *
 * A variable with our prefix that is no key is passed over, since Kubernetes sets such ones by
 * itself (WALAGENT_AGENT_SERVICE_HOST for a service "walagent-agent"), unless it looks like a
 * misspelt key.
 */
#include "config_internal.h"

#include "walagent/base/str.h"

#include <ctype.h>
#include <string.h>
#include <unistd.h>

#define PREFIX "WALAGENT_"
#define REPOSITORY_PREFIX PREFIX "REPOSITORY__"

static char *
lower(const char *s, size_t len)
{
    char *text = wa_strndup(s, len);
    for (char *p = text; *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    return text;
}

/* Whether the repository's name reads `name` in the environment. */
static bool
reads_as(const char *repository, const char *name)
{
    for (; *repository != '\0' && *name != '\0'; repository++, name++)
        if ((*repository == '-' ? '_' : *repository) != *name)
            return false;
    return *repository == *name;
}

static wa_status
cannot_tell(const char *variable, const char *one, const char *other, wa_error *err)
{
    wa_error_set(err, WA_INVALID,
                 "environment %s: repositories \"%s\" and \"%s\" can't be told apart", variable,
                 one, other);
    return wa_error_hint(err, "Set it in the file, or give one of them another name.");
}

static wa_status
find_repository(wa_config *c, const char *variable, const char *name, wa_config_set **ret,
                wa_error *err)
{
    wa_config_set *found = NULL;
    for (size_t i = 1; i < c->set_count; i++) {
        if (!reads_as(c->sets[i].repository, name))
            continue;
        if (found != NULL)
            return cannot_tell(variable, found->repository, c->sets[i].repository, err);
        found = &c->sets[i];
    }
    if (found == NULL && !wa_name_is_valid(name)) {
        wa_error_set(err, WA_INVALID, "environment %s: invalid repository name \"%s\"", variable,
                     name);
        return wa_error_hint(err, "1 to 63 letters, digits and '_'.");
    }
    *ret = found != NULL ? found : wa_config_add_set(c, name);
    return WA_OK;
}

/* One variable, taken apart. */
typedef struct twin {
    const char *variable; /* its name, for messages */
    const char *section;
    const char *repository; /* NULL: none */
    const char *key;
    const char *value;
} twin;

static wa_status
apply(wa_config *c, const twin *t, bool *any, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *origin = wa_format("environment %s", t->variable);
    size_t option = wa_option_find(t->section, t->key);
    bool from_file = option == wa_option_count();
    if (from_file)
        option = wa_option_find_secret_file(t->section, t->key);
    if (option == wa_option_count()) {
        if (wa_option_nearest(t->section, t->key) != NULL)
            return wa_option_unknown(origin, t->section, t->key, err);
        return WA_OK;
    }
    wa_config_set *set = &c->sets[0];
    if (t->repository != NULL)
        WA_TRY(find_repository(c, t->variable, t->repository, &set, err));
    wa_config_value *value = &set->values[option];
    if (value->origin != NULL && wa_str_starts(value->origin, "environment ")) {
        wa_error_set(err, WA_INVALID, "both %s and %s are set",
                     value->origin + strlen("environment "), t->variable);
        return wa_error_hint(err, "Unset one of them.");
    }
    *any = true;
    return wa_config_assign(set, option, t->value, from_file, origin, err);
}

/* REPOSITORY__<NAME>__<KEY>: no key has two underscores, so the last ones end the name. */
static wa_status
apply_to_repository(wa_config *c, const char *variable, const char *value, bool *any, wa_error *err)
{
    const char *name = variable + strlen(REPOSITORY_PREFIX);
    const char *key = NULL;
    for (const char *p = strstr(name, "__"); p != NULL; p = strstr(p + 1, "__"))
        key = p;
    if (key == NULL || key == name)
        return WA_OK;
    WA_CLEANUP(wa_freep) char *repository = lower(name, (size_t)(key - name));
    WA_CLEANUP(wa_freep) char *lower_key = lower(key + 2, strlen(key + 2));
    twin t = {variable, "repository", repository, lower_key, value};
    return apply(c, &t, any, err);
}

static wa_status
apply_to_section(wa_config *c, const char *variable, const char *value, bool *any, wa_error *err)
{
    const char *section = variable + strlen(PREFIX);
    const char *underscore = strchr(section, '_');
    if (underscore == NULL)
        return WA_OK;
    WA_CLEANUP(wa_freep) char *lower_section = lower(section, (size_t)(underscore - section));
    WA_CLEANUP(wa_freep) char *key = lower(underscore + 1, strlen(underscore + 1));
    if (!wa_option_section_exists(lower_section))
        return WA_OK;
    twin t = {variable, lower_section, NULL, key, value};
    return apply(c, &t, any, err);
}

wa_status
wa_config_apply_environment(wa_config *c, bool *ret_any, wa_error *err)
{
    bool any = false;
    for (char **p = environ; *p != NULL; p++) {
        const char *equals = strchr(*p, '=');
        if (equals == NULL || !wa_str_starts(*p, PREFIX))
            continue;
        WA_CLEANUP(wa_freep) char *variable = wa_strndup(*p, (size_t)(equals - *p));
        if (wa_str_starts(variable, REPOSITORY_PREFIX))
            WA_TRY(apply_to_repository(c, variable, equals + 1, &any, err));
        else
            WA_TRY(apply_to_section(c, variable, equals + 1, &any, err));
    }
    *ret_any = any;
    return WA_OK;
}
