/*
 * config_internal.h - between config.c (values), config_ini.c (the file's lines), config_check.c
 * (types and limits) and config_env.c (the environment).
 */
#ifndef WALAGENT_CONFIG_INTERNAL_H
#define WALAGENT_CONFIG_INTERNAL_H

#include "walagent/base/config.h"

/* A value as text and, for numbers, as what it says. */
typedef struct wa_config_value {
    char *text;   /* NULL: unset, without a default */
    char *origin; /* NULL: the default */
    union {
        bool flag;
        int64_t number;
        uint64_t amount; /* bytes or milliseconds */
    } as;
} wa_config_value;

/* The values of the plain sections, or of one further repository. */
typedef struct wa_config_set {
    char *repository;        /* its name; NULL for the plain sections */
    wa_config_value *values; /* one for each of wa_options */
} wa_config_set;

struct wa_config {
    char *path;
    wa_config_set *sets; /* the first is the plain one */
    size_t set_count;
    const char **repositories; /* names, borrowed from the sets, NULL-terminated */
};

/* One "key = value" line. section: "archive", "repository NAME"; all three are owned. */
typedef struct wa_ini_entry {
    char *section;
    char *key; /* NULL: the line opens the section */
    char *value;
    size_t line;
} wa_ini_entry;

typedef struct wa_ini_reader {
    const char *name; /* for messages */
    const char *next;
    const char *end;
    size_t line;
    char *section; /* owned */
} wa_ini_reader;

/* The next entry; NOT_FOUND at the end of the text. */
wa_status wa_ini_next(wa_ini_reader *reader, wa_ini_entry *ret, wa_error *err) WA_MUST_CHECK;
void wa_ini_reader_done(wa_ini_reader *reader);
void wa_ini_entry_done(wa_ini_entry *entry);

size_t wa_option_count(void);
/* The index in wa_options of that key, or wa_option_count(). */
size_t wa_option_find(const char *section, const char *key);
bool wa_option_section_exists(const char *section);
/* For "KEY_file" of a secret KEY: the index of KEY, or wa_option_count(). */
size_t wa_option_find_secret_file(const char *section, const char *key);
/* A key of the section that `key` may be meant for, or NULL. */
const char *wa_option_nearest(const char *section, const char *key);
/* "NAME is unknown" with the hint that helps most. */
wa_status wa_option_unknown(const char *where, const char *section, const char *key, wa_error *err);
wa_status wa_option_unknown_section(const char *where, const char *section, wa_error *err);

/* Checks value->text against the option and fills value->as. */
wa_status wa_option_check(const wa_option *option, wa_config_value *value,
                          wa_error *err) WA_MUST_CHECK;
/* 1 to 63 of a-z 0-9 _ - */
bool wa_name_is_valid(const char *name);

/* The set of that repository (NULL: the plain one), or NULL. */
wa_config_set *wa_config_find_set(const wa_config *c, const char *repository);
wa_config_set *wa_config_add_set(wa_config *c, const char *repository);
/* Gives a value its text (from the file at `text` when from_file) and origin, and checks it. */
wa_status wa_config_assign(wa_config_set *set, size_t option, const char *text, bool from_file,
                           const char *origin, wa_error *err) WA_MUST_CHECK;
/* Takes what the environment sets. ret_any: whether it set anything. */
wa_status wa_config_apply_environment(wa_config *c, bool *ret_any, wa_error *err) WA_MUST_CHECK;

#endif
