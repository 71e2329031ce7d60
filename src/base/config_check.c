/*
 * config_check.c - looking options up, and checking a value against its option.
 */
#include "config_internal.h"

#include "walagent/base/str.h"

#include <string.h>

#define CANDIDATES 64

size_t
wa_option_count(void)
{
    size_t count = 0;
    while (wa_options[count].section != NULL)
        count++;
    return count;
}

size_t
wa_option_find(const char *section, const char *key)
{
    size_t i = 0;
    for (; wa_options[i].section != NULL; i++)
        if (strcmp(wa_options[i].section, section) == 0 && strcmp(wa_options[i].key, key) == 0)
            break;
    return i;
}

bool
wa_option_section_exists(const char *section)
{
    for (size_t i = 0; wa_options[i].section != NULL; i++)
        if (strcmp(wa_options[i].section, section) == 0)
            return true;
    return false;
}

size_t
wa_option_find_secret_file(const char *section, const char *key)
{
    size_t none = wa_option_count();
    if (!wa_str_ends(key, "_file"))
        return none;
    WA_CLEANUP(wa_freep) char *secret = wa_strndup(key, strlen(key) - strlen("_file"));
    size_t found = wa_option_find(section, secret);
    return found < none && wa_options[found].secret ? found : none;
}

const char *
wa_option_nearest(const char *section, const char *key)
{
    const char *candidates[CANDIDATES];
    size_t count = 0;
    for (size_t i = 0; wa_options[i].section != NULL && count < CANDIDATES; i++)
        if (strcmp(wa_options[i].section, section) == 0)
            candidates[count++] = wa_options[i].key;
    return wa_nearest(key, candidates, count);
}

wa_status
wa_option_unknown(const char *where, const char *section, const char *key, wa_error *err)
{
    wa_error_set(err, WA_INVALID, "%s: unknown key \"%s\" in section [%s]", where, key, section);
    for (size_t i = 0; wa_options[i].section != NULL; i++)
        if (strcmp(wa_options[i].key, key) == 0)
            return wa_error_hint(err, "\"%s\" belongs to section [%s].", key,
                                 wa_options[i].section);
    const char *nearest = wa_option_nearest(section, key);
    if (nearest != NULL)
        return wa_error_hint(err, "Did you mean \"%s\"?", nearest);
    return wa_error_hint(err, "\"walagent config show\" lists all keys.");
}

wa_status
wa_option_unknown_section(const char *where, const char *section, wa_error *err)
{
    const char *candidates[CANDIDATES];
    size_t count = 0;
    wa_error_set(err, WA_INVALID, "%s: unknown section [%s]", where, section);
    for (size_t i = 0; wa_options[i].section != NULL && count < CANDIDATES; i++)
        if (count == 0 || strcmp(candidates[count - 1], wa_options[i].section) != 0)
            candidates[count++] = wa_options[i].section;
    const char *nearest = wa_nearest(section, candidates, count);
    if (nearest != NULL)
        return wa_error_hint(err, "Did you mean [%s]?", nearest);
    return wa_error_hint(err, "Sections are [cluster], [repository], [repository NAME], "
                              "[archive], [backup], [retention] and [agent].");
}

bool
wa_name_is_valid(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    return len >= 1 && len <= 63 && name[len] == '\0';
}

/* Whether `word` is one of the words that '|' separates. */
static bool
is_one_of(const char *words, const char *word, size_t len)
{
    for (const char *p = words; *p != '\0';) {
        size_t n = strcspn(p, "|");
        if (n == len && memcmp(p, word, n) == 0)
            return true;
        p += n;
        if (*p == '|')
            p++;
    }
    return false;
}

static wa_status
check_enum(const wa_option *option, const char *text, wa_error *err)
{
    if (is_one_of(option->limits, text, strlen(text)))
        return WA_OK;
    wa_error_set(err, WA_INVALID, "invalid value \"%s\"", text);
    return wa_error_hint(err, "One of %s.", option->limits);
}

static wa_status
check_url(const wa_option *option, const char *text, wa_error *err)
{
    const char *after = strstr(text, "://");
    if (after != NULL && after[3] != '\0' &&
        is_one_of(option->limits, text, (size_t)(after - text)))
        return WA_OK;
    wa_error_set(err, WA_INVALID, "invalid URL \"%s\"", text);
    return wa_error_hint(err, "A URL begins with one of %s, and then \"://\".", option->limits);
}

/* Parses a number of the option's type; signed and unsigned ones compare alike because limits and
 * values of WA_OPT_INT are not negative in any option. */
static wa_status
parse_amount(wa_option_type type, const char *text, uint64_t *ret, wa_error *err)
{
    if (type == WA_OPT_SIZE)
        return wa_parse_size(text, ret, err);
    if (type == WA_OPT_DURATION)
        return wa_parse_duration_ms(text, ret, err);
    wa_status status = wa_parse_u64(text, ret, err);
    if (status == WA_OK && *ret > INT64_MAX)
        status = wa_error_set(err, WA_INVALID, "invalid number \"%s\"", text);
    return status == WA_OK ? WA_OK : wa_error_hint(err, "Write a whole number.");
}

static wa_status
check_amount(const wa_option *option, const char *text, uint64_t *ret, wa_error *err)
{
    uint64_t amount = 0;
    uint64_t least = 0;
    uint64_t most = UINT64_MAX;
    WA_TRY(parse_amount(option->type, text, &amount, err));
    const char *dots = strstr(option->limits, "..");
    WA_ASSERT(dots != NULL);
    WA_CLEANUP(wa_freep)
    char *first = wa_strndup(option->limits, (size_t)(dots - option->limits));
    WA_TRY(parse_amount(option->type, first, &least, err));
    if (dots[2] != '\0')
        WA_TRY(parse_amount(option->type, dots + 2, &most, err));
    if (amount < least || amount > most) {
        wa_error_set(err, WA_INVALID, "value \"%s\" is out of range", text);
        if (dots[2] == '\0')
            return wa_error_hint(err, "At least %s.", first);
        return wa_error_hint(err, "From %s to %s.", first, dots + 2);
    }
    *ret = amount;
    return WA_OK;
}

static wa_status
check_path(const char *text, wa_error *err)
{
    if (text[0] == '\0' || text[0] == '/')
        return WA_OK;
    wa_error_set(err, WA_INVALID, "path \"%s\" is not absolute", text);
    return wa_error_hint(err, "Write the path from / on: programs start in different directories.");
}

static wa_status
check_string(const wa_option *option, const char *text, wa_error *err)
{
    bool is_name = strcmp(option->section, "cluster") == 0 && strcmp(option->key, "name") == 0;
    if (!is_name || wa_name_is_valid(text))
        return WA_OK;
    wa_error_set(err, WA_INVALID, "invalid cluster name \"%s\"", text);
    return wa_error_hint(err, "1 to 63 lower-case letters, digits, '-' and '_'.");
}

wa_status
wa_option_check(const wa_option *option, wa_config_value *value, wa_error *err)
{
    uint64_t amount;
    switch (option->type) {
    case WA_OPT_STRING:
        return check_string(option, value->text, err);
    case WA_OPT_PATH:
        return check_path(value->text, err);
    case WA_OPT_URL:
        return value->text[0] == '\0' ? WA_OK : check_url(option, value->text, err);
    case WA_OPT_ENUM:
        return check_enum(option, value->text, err);
    case WA_OPT_BOOL:
        return wa_parse_bool(value->text, &value->as.flag, err);
    case WA_OPT_INT:
        WA_TRY(check_amount(option, value->text, &amount, err));
        value->as.number = (int64_t)amount;
        return WA_OK;
    case WA_OPT_SIZE:
    case WA_OPT_DURATION:
        return check_amount(option, value->text, &value->as.amount, err);
    }
    return wa_error_set(err, WA_FAILED, "option without a type");
}
