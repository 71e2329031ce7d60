/*
 * cmd_internal.h - the command line: one table per command makes its parser, its --help and its man
 * page.
 *
 * A command is one file with one `const wa_command`. run() gets the parsed options and a context
 * that opens configuration and repository on demand, and returns a status; the caller prints the
 * error and maps the status to the exit code (wa_exit_code), unless the command set ctx->exit_code.
 */
#ifndef WALAGENT_CMD_INTERNAL_H
#define WALAGENT_CMD_INTERNAL_H

#include "walagent/base/cancel.h"
#include "walagent/base/config.h"
#include "walagent/base/error.h"
#include "walagent/base/log.h"
#include "walagent/base/progress.h"
#include "walagent/base/str.h"
#include "walagent/codec/json.h"
#include "walagent/repo/repo.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define WA_VERSION "0.1.0"

typedef enum wa_arg_kind {
    WA_ARG_FLAG,  /* --json */
    WA_ARG_VALUE, /* --jobs N */
    WA_ARG_LIST   /* may be given several times */
} wa_arg_kind;

typedef struct wa_command_option {
    const char *name; /* without the dashes */
    char letter;      /* 0: none */
    wa_arg_kind kind;
    const char *value; /* "N", "FILE": for help */
    const char *doc;
} wa_command_option;

typedef struct wa_context wa_context;

typedef struct wa_command {
    const char *name;
    const char *summary;  /* one line */
    const char *operands; /* "PATH", "NAME PATH"; NULL: none */
    size_t min_operands, max_operands;
    const wa_command_option *options; /* ended by a NULL name; NULL: only the common ones */
    const char *description;          /* paragraphs separated by an empty line */
    const char *exit_codes;           /* lines "CODE  meaning", beyond the common ones; NULL */
    const char *example;              /* lines; NULL */
    wa_status (*run)(wa_context *ctx, wa_error *err);
} wa_command;

extern const wa_command *const wa_commands[]; /* NULL-terminated, in the order of the help */

/* Parsed command line. */
typedef struct wa_parsed {
    const wa_command_option *option; /* of the command's table or the common table */
    const char *value;               /* NULL for flags */
} wa_parsed;

struct wa_context {
    const wa_command *command;
    wa_parsed *parsed;
    size_t parsed_count;
    const char **operands; /* owned; the strings are argv's */
    size_t operand_count;
    wa_config *config; /* owned; opened by wa_context_config */
    wa_cancel *cancel; /* triggered by SIGINT and SIGTERM */
    bool quiet, json, verbose;
    int exit_code;       /* -1: from the status */
    const char *program; /* argv[0] */
};

wa_status wa_command_parse(const wa_command *command, int argc, const char *const *argv,
                           wa_context *ctx, wa_error *err) WA_MUST_CHECK;
bool wa_arg_flag(const wa_context *ctx, const char *name);
const char *wa_arg_value(const wa_context *ctx, const char *name); /* the last one given; NULL */
void wa_arg_list(const wa_context *ctx, const char *name, wa_strv *ret);

/* Help and man pages from the tables. */
extern const wa_command_option wa_common_options[];
void wa_command_help(const wa_command *command, FILE *out);
void wa_program_help(FILE *out);
void wa_command_man(const wa_command *command, FILE *out); /* troff; NULL: walagent(1) itself */
void wa_config_man(FILE *out);                             /* walagent.conf(5) */
/* All of them, below DIR/man1 and DIR/man5. */
wa_status wa_write_man_pages(const char *dir, wa_error *err) WA_MUST_CHECK;
const wa_command *wa_command_find(const char *name);

/* The configuration (-c FILE), loaded once. */
wa_status wa_context_config(wa_context *ctx, const wa_config **ret, wa_error *err) WA_MUST_CHECK;
/* What a repository with mirrors is opened for (repo/repo.h, wa_repo_only_read). */
typedef enum wa_repo_use {
    WA_REPO_WRITE, /* or acknowledge */
    WA_REPO_READ,  /* tell a person: what is listed is the main repository's */
    WA_REPO_GET,   /* archive-get, which takes no listing of a mirror for "not there" */
    WA_REPO_MAIN   /* the main repository alone, as if it had no mirrors: what it holds is judged */
} wa_repo_use;
/* The repository of the configuration with its mirrors, or --repository NAME alone, for reading.
 * load: its cluster entry must exist. The caller owns it. */
wa_status wa_context_repo(wa_context *ctx, wa_repo_use use, bool load, wa_repo **ret,
                          wa_error *err) WA_MUST_CHECK;
/* The same, not loaded, with a budget for each call to a store (hooks). alone: NAME, or NULL. */
wa_status wa_open_repo(const wa_config *config, const char *alone, uint64_t budget_ms,
                       wa_cancel *cancel, wa_repo_use use, wa_repo **ret,
                       wa_error *err) WA_MUST_CHECK;
/* A warning for each mirror that gave objects in the main repository's place. */
void wa_tell_of_mirrors(const wa_repo *repo);
/* For a command's table. */
#define WA_OPTION_REPOSITORY                                                                       \
    {                                                                                              \
        "repository", 0, WA_ARG_VALUE, "NAME",                                                     \
            "Use [repository NAME] alone: a mirror, when the main repository is lost or doubted."  \
    }
/* [backup] jobs or --jobs; 0 means the number of processors. */
wa_status wa_context_jobs(wa_context *ctx, size_t *ret, wa_error *err) WA_MUST_CHECK;

/* Printing. */
void wa_print_json(const json_t *json);   /* indented on a terminal, one line otherwise */
void wa_print_error(const wa_error *err); /* "walagent: message" and "HINT:  ..." on stderr */
/* What a library tells while it works (the listener of backup and restore): arg is the wa_context.
 */
void wa_print_event(void *arg, wa_log_level level, const char *message, const char *hint);

/* Show progress while work runs in this process: on a terminal a line rewritten 5 times a second,
 * else a line every 30 s, nothing with -q. */
typedef struct wa_progress_view wa_progress_view;
wa_progress_view *wa_progress_show(const wa_context *ctx, wa_progress *progress, const char *what);
void wa_progress_hide(wa_progress_view *view); /* ends the line; NULL is fine */

/* Columns aligned for people: rows of cells. */
typedef struct wa_table wa_table;
wa_table *wa_table_new(size_t columns);
void wa_table_cell(wa_table *t, const char *text); /* row by row */
void wa_table_print(wa_table *t, FILE *out);
void wa_table_free(wa_table *t);
WA_DEFINE_CLEANUP(wa_table, wa_table_free)

#endif
