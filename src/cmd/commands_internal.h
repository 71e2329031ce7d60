/*
 * commands_internal.h - one declaration per command file.
 */
#ifndef WALAGENT_COMMANDS_INTERNAL_H
#define WALAGENT_COMMANDS_INTERNAL_H

#include "cmd_internal.h"

extern const wa_command wa_command_init;
extern const wa_command wa_command_run;
extern const wa_command wa_command_backup;
extern const wa_command wa_command_list;
extern const wa_command wa_command_restore;
extern const wa_command wa_command_log;
extern const wa_command wa_command_verify;
extern const wa_command wa_command_check;
extern const wa_command wa_command_status;
extern const wa_command wa_command_lineage;
extern const wa_command wa_command_archive_push;
extern const wa_command wa_command_archive_get;
extern const wa_command wa_command_config;

/* lineage_resolve.c: the verb "resolve NAME --keep archived|both" of lineage. */
wa_status wa_lineage_resolve(wa_context *ctx, wa_repo *repo, wa_error *err) WA_MUST_CHECK;

#endif
