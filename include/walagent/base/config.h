/*
 * walagent/base/config.h - the configuration: one table makes the parser, `config show`, the sample
 * file and the reference page. libc only: the hooks' front reads it too.
 *
 * File: INI, one key a line, UTF-8. A comment begins a line with '#' or ';', or follows white space
 * outside double quotes. Quoted values take \" and \\. `[repository NAME]` adds a further
 * repository. Every key has an environment twin WALAGENT_<SECTION>_<KEY> (named repository:
 * WALAGENT_REPOSITORY__<NAME>__<KEY>) that wins over the file; a secret KEY may be given as
 * KEY_file, the file's first line is the value.
 * Unknown keys and sections are INVALID with file, line and the nearest known one.
 */
#ifndef WALAGENT_BASE_CONFIG_H
#define WALAGENT_BASE_CONFIG_H

#include "walagent/base/buf.h"
#include "walagent/base/error.h"
#include "walagent/base/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum wa_option_type {
    WA_OPT_STRING,
    WA_OPT_PATH,
    WA_OPT_URL,
    WA_OPT_BOOL,
    WA_OPT_INT,
    WA_OPT_SIZE,
    WA_OPT_DURATION,
    WA_OPT_ENUM
} wa_option_type;

typedef struct wa_option {
    const char *section; /* "cluster", "repository", ... */
    const char *key;
    wa_option_type type;
    const char *fallback; /* default as text; NULL: none */
    const char *limits;   /* enum: "auto|path|virtual"; url: schemes "file|s3"; int, size, duration:
                           * "MIN..MAX" or "MIN.."; else NULL */
    const char *example;  /* for the sample file where there is no default; NULL: none */
    bool secret;          /* masked in output; KEY_file is accepted */
    bool reloadable;      /* SIGHUP is enough */
    const char *doc;      /* one or two sentences */
} wa_option;

/* The table, ended by an entry whose section is NULL. */
extern const wa_option wa_options[];

typedef struct wa_config wa_config;

/* path NULL: $WALAGENT_CONFIG, else /etc/walagent/walagent.conf. A missing default file with
 * nothing in the environment is INVALID with a hint. Every value is checked against its type and
 * limits. */
wa_status wa_config_load(const char *path, wa_config **ret, wa_error *err) WA_MUST_CHECK;
/* For tests and fuzzing: the same from text; `name` stands in messages. No environment. */
wa_status wa_config_parse(const char *name, const char *text, size_t len, wa_config **ret,
                          wa_error *err) WA_MUST_CHECK;
void wa_config_free(wa_config *config);
WA_DEFINE_CLEANUP(wa_config, wa_config_free)

/* Values, defaults filled in. `section` may be "repository NAME". The key must be in the table
 * (asserted). String: NULL when unset without a default. Borrowed until free. */
const char *wa_config_string(const wa_config *c, const char *section, const char *key);
bool wa_config_bool(const wa_config *c, const char *section, const char *key);
int64_t wa_config_int(const wa_config *c, const char *section, const char *key);
uint64_t wa_config_size(const wa_config *c, const char *section, const char *key);
uint64_t wa_config_duration_ms(const wa_config *c, const char *section, const char *key);
bool wa_config_is_set(const wa_config *c, const char *section, const char *key);
/* Where the value comes from: "default", "FILE line N", "environment NAME". */
const char *wa_config_origin(const wa_config *c, const char *section, const char *key);
const char *wa_config_path(const wa_config *c); /* the file that was read; NULL: none */
/* Names of further repositories, NULL-terminated, borrowed. The first one is "repository" itself.
 */
const char *const *wa_config_repositories(const wa_config *c);

/* The annotated sample file (conf/walagent.conf) and the reference page's table, from wa_options.
 */
void wa_config_write_sample(wa_buf *out);
void wa_config_write_reference(wa_buf *out); /* Markdown, one table per section */

#endif
