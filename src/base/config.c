/*
 * config.c - the configuration's values: from the file, the environment, the defaults.
 */
#include "config_internal.h"

#include "walagent/base/file.h"
#include "walagent/base/str.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_PATH "/etc/walagent/walagent.conf"
#define FILE_MAX_BYTES (1024 * 1024)
#define SECRET_MAX_BYTES (64 * 1024)

static wa_config *
config_new(void)
{
    wa_config *c = wa_calloc(1, sizeof *c);
    wa_config_add_set(c, NULL);
    return c;
}

static void
free_set(wa_config_set *set)
{
    for (size_t i = 0; i < wa_option_count(); i++) {
        free(set->values[i].text);
        free(set->values[i].origin);
    }
    free(set->values);
    free(set->repository);
}

void
wa_config_free(wa_config *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->set_count; i++)
        free_set(&c->sets[i]);
    free(c->sets);
    free(c->repositories);
    free(c->path);
    free(c);
}

wa_config_set *
wa_config_find_set(const wa_config *c, const char *repository)
{
    for (size_t i = 0; i < c->set_count; i++)
        if (wa_str_eq(c->sets[i].repository, repository))
            return &c->sets[i];
    return NULL;
}

wa_config_set *
wa_config_add_set(wa_config *c, const char *repository)
{
    c->sets = wa_reallocarray(c->sets, c->set_count + 1, sizeof *c->sets);
    wa_config_set *set = &c->sets[c->set_count++];
    set->repository = wa_strdup(repository);
    set->values = wa_calloc(wa_option_count(), sizeof *set->values);
    return set;
}

/* A file that somebody named. `other`: what to do where it isn't there. */
static wa_status
read_named(const char *path, size_t max, const char *other, wa_buf *ret, wa_error *err)
{
    struct stat st;
    wa_status status = wa_file_read(path, max, ret, err);
    if (status == WA_OK)
        return WA_OK;
    if (status == WA_NOT_FOUND)
        return wa_error_hint(err, "%s", other);
    if (status == WA_DENIED)
        return wa_error_hint(err,
                             "The user that runs walagent (uid %u) must be allowed to read it, and "
                             "to search the directories above it.",
                             (unsigned)geteuid());
    if (stat(path, &st) != 0) /* a file where a directory should be, links in a circle */
        return wa_error_hint(err, "%s", other);
    if (S_ISDIR(st.st_mode))
        return wa_error_hint(err, "Name a file, not the directory that it is in.");
    if (status == WA_NO_SPACE)
        return wa_error_hint(err, "Is this the right file?");
    return wa_error_hint(err, "The system can't read it: look at the disk that it is on.");
}

/* A secret's file: its first line. */
static wa_status
read_secret(const char *path, char **ret, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf content = WA_BUF_INIT(SECRET_MAX_BYTES);
    WA_TRY(read_named(path, SECRET_MAX_BYTES, "Create it, or correct its name.", &content, err));
    size_t len = strcspn(wa_buf_str(&content), "\r\n");
    if (len == 0) {
        wa_error_set(err, WA_INVALID, "the first line of file \"%s\" is empty", path);
        return wa_error_hint(err, "The secret belongs there.");
    }
    *ret = wa_strndup(content.data, len);
    return WA_OK;
}

wa_status
wa_config_assign(wa_config_set *set, size_t option, const char *text, bool from_file,
                 const char *origin, wa_error *err)
{
    const wa_option *o = &wa_options[option];
    WA_CLEANUP(wa_freep) char *owned = NULL;
    wa_config_value parsed = {0};
    wa_status status = WA_OK;
    if (from_file)
        status = read_secret(text, &owned, err);
    else
        owned = wa_strdup(text);
    parsed.text = owned;
    if (status == WA_OK)
        status = wa_option_check(o, &parsed, err);
    if (status != WA_OK) {
        err->status = WA_INVALID; /* whatever it was: the configuration doesn't work */
        return wa_error_wrap(err, "%s: %s%s", origin, o->key, from_file ? "_file" : "");
    }
    wa_config_value *value = &set->values[option];
    free(value->text);
    free(value->origin);
    *value = parsed;
    value->text = WA_TAKE(owned);
    value->origin = wa_strdup(origin);
    return WA_OK;
}

/* The set that a section of the file means; a "repository NAME" that is new is added. */
static wa_status
open_section(wa_config *c, const char *where, const char *section, wa_config_set **ret,
             wa_error *err)
{
    if (wa_option_section_exists(section)) {
        *ret = &c->sets[0];
        return WA_OK;
    }
    if (!wa_str_starts(section, "repository "))
        return wa_option_unknown_section(where, section, err);
    const char *name = section + strlen("repository ");
    if (!wa_name_is_valid(name)) {
        wa_error_set(err, WA_INVALID, "%s: invalid repository name \"%s\"", where, name);
        return wa_error_hint(err, "1 to 63 lower-case letters, digits, '-' and '_'.");
    }
    wa_config_set *set = wa_config_find_set(c, name);
    *ret = set != NULL ? set : wa_config_add_set(c, name);
    return WA_OK;
}

static wa_status
already_set(const char *where, const wa_option *option, const char *origin, wa_error *err)
{
    wa_error_set(err, WA_INVALID, "%s: \"%s\" was already set (%s)", where, option->key, origin);
    return wa_error_hint(err, "Keep the line that is right, and remove the other one.");
}

static wa_status
apply_entry(wa_config *c, const char *name, const wa_ini_entry *entry, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *where = wa_format("%s line %zu", name, entry->line);
    wa_config_set *set = NULL;
    WA_TRY(open_section(c, where, entry->section, &set, err));
    if (entry->key == NULL)
        return WA_OK;
    const char *section = set->repository != NULL ? "repository" : entry->section;
    size_t option = wa_option_find(section, entry->key);
    bool from_file = option == wa_option_count();
    if (from_file)
        option = wa_option_find_secret_file(section, entry->key);
    if (option == wa_option_count())
        return wa_option_unknown(where, section, entry->key, err);
    if (set->values[option].origin != NULL)
        return already_set(where, &wa_options[option], set->values[option].origin, err);
    return wa_config_assign(set, option, entry->value, from_file, where, err);
}

static wa_status
apply_text(wa_config *c, const char *name, const char *text, size_t len, wa_error *err)
{
    WA_CLEANUP(wa_ini_reader_done)
    wa_ini_reader reader = {.name = name, .next = text, .end = text + len};
    for (;;) {
        WA_CLEANUP(wa_ini_entry_done) wa_ini_entry entry = {0};
        wa_status status = wa_ini_next(&reader, &entry, err);
        if (status == WA_NOT_FOUND) {
            wa_error_clear(err);
            return WA_OK;
        }
        WA_TRY(status);
        WA_TRY(apply_entry(c, name, &entry, err));
    }
}

static void
fill_defaults(wa_config_set *set)
{
    wa_error err = WA_ERROR_INIT;
    for (size_t i = 0; i < wa_option_count(); i++) {
        wa_config_value *value = &set->values[i];
        if (value->text != NULL || wa_options[i].fallback == NULL)
            continue;
        value->text = wa_strdup(wa_options[i].fallback);
        WA_ASSERT(wa_option_check(&wa_options[i], value, &err) == WA_OK);
    }
}

/* Defaults, what follows from other values, and the list of names. */
static void
finish(wa_config *c)
{
    for (size_t i = 0; i < c->set_count; i++)
        fill_defaults(&c->sets[i]);
    wa_config_value *socket = &c->sets[0].values[wa_option_find("agent", "socket")];
    if (socket->text == NULL)
        socket->text = wa_format("/run/walagent/%s.sock", wa_config_string(c, "cluster", "name"));
    c->repositories = wa_calloc(c->set_count, sizeof *c->repositories);
    for (size_t i = 1; i < c->set_count; i++)
        c->repositories[i - 1] = c->sets[i].repository;
}

wa_status
wa_config_parse(const char *name, const char *text, size_t len, wa_config **ret, wa_error *err)
{
    WA_CLEANUP(wa_config_freep) wa_config *c = config_new();
    WA_TRY(apply_text(c, name, text, len, err));
    finish(c);
    *ret = WA_TAKE(c);
    return WA_OK;
}

/* The file, if there is one. ret_missing: the default file isn't there, which may be fine. */
static wa_status
load_file(wa_config *c, const char *path, bool *ret_missing, wa_error *err)
{
    const char *chosen = path != NULL ? path : getenv("WALAGENT_CONFIG");
    bool is_default = wa_str_empty(chosen);
    if (is_default)
        chosen = DEFAULT_PATH;
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(FILE_MAX_BYTES);
    wa_status status =
        read_named(chosen, FILE_MAX_BYTES, "Create it, or name another with -c or WALAGENT_CONFIG.",
                   &text, err);
    if (status == WA_NOT_FOUND && is_default) {
        *ret_missing = true;
        return WA_OK;
    }
    if (status != WA_OK) {
        err->status = WA_INVALID;
        return wa_error_wrap(err, "could not read the configuration");
    }
    c->path = wa_strdup(chosen);
    return apply_text(c, chosen, wa_buf_str(&text), text.len, err);
}

wa_status
wa_config_load(const char *path, wa_config **ret, wa_error *err)
{
    WA_CLEANUP(wa_config_freep) wa_config *c = config_new();
    bool missing = false;
    bool any = false;
    WA_TRY(load_file(c, path, &missing, err));
    WA_TRY(wa_config_apply_environment(c, &any, err));
    if (missing && !any) {
        wa_error_set(err, WA_INVALID, "there is no configuration: file \"%s\" does not exist",
                     DEFAULT_PATH);
        return wa_error_hint(err, "Create it, name another with -c or WALAGENT_CONFIG, or set "
                                  "WALAGENT_<SECTION>_<KEY> variables.");
    }
    wa_error_clear(err);
    finish(c);
    *ret = WA_TAKE(c);
    return WA_OK;
}

/* The value of a key that must be in the table and of one of two types. */
static const wa_config_value *
value_of(const wa_config *c, const char *section, const char *key, const wa_option **ret_option)
{
    const char *repository = NULL;
    if (wa_str_starts(section, "repository ")) {
        repository = section + strlen("repository ");
        section = "repository";
    }
    const wa_config_set *set = wa_config_find_set(c, repository);
    size_t option = wa_option_find(section, key);
    WA_ASSERT(set != NULL);
    WA_ASSERT(option < wa_option_count());
    if (ret_option != NULL)
        *ret_option = &wa_options[option];
    return &set->values[option];
}

const char *
wa_config_string(const wa_config *c, const char *section, const char *key)
{
    return value_of(c, section, key, NULL)->text;
}

bool
wa_config_bool(const wa_config *c, const char *section, const char *key)
{
    const wa_option *option;
    const wa_config_value *value = value_of(c, section, key, &option);
    WA_ASSERT(option->type == WA_OPT_BOOL && value->text != NULL);
    return value->as.flag;
}

int64_t
wa_config_int(const wa_config *c, const char *section, const char *key)
{
    const wa_option *option;
    const wa_config_value *value = value_of(c, section, key, &option);
    WA_ASSERT(option->type == WA_OPT_INT && value->text != NULL);
    return value->as.number;
}

uint64_t
wa_config_size(const wa_config *c, const char *section, const char *key)
{
    const wa_option *option;
    const wa_config_value *value = value_of(c, section, key, &option);
    WA_ASSERT(option->type == WA_OPT_SIZE && value->text != NULL);
    return value->as.amount;
}

uint64_t
wa_config_duration_ms(const wa_config *c, const char *section, const char *key)
{
    const wa_option *option;
    const wa_config_value *value = value_of(c, section, key, &option);
    WA_ASSERT(option->type == WA_OPT_DURATION && value->text != NULL);
    return value->as.amount;
}

bool
wa_config_is_set(const wa_config *c, const char *section, const char *key)
{
    return value_of(c, section, key, NULL)->origin != NULL;
}

const char *
wa_config_origin(const wa_config *c, const char *section, const char *key)
{
    const wa_config_value *value = value_of(c, section, key, NULL);
    return value->origin != NULL ? value->origin : "default";
}

const char *
wa_config_path(const wa_config *c)
{
    return c->path;
}

const char *const *
wa_config_repositories(const wa_config *c)
{
    return c->repositories;
}
