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
extern const wa_command wa_command_mirror;
extern const wa_command wa_command_status;
extern const wa_command wa_command_lineage;
extern const wa_command wa_command_archive_push;
extern const wa_command wa_command_archive_get;
extern const wa_command wa_command_config;

/* status.c: the status of the agent that answers on this socket. */
wa_status wa_ask_agent(wa_context *ctx, const char *socket, json_t **ret,
                       wa_error *err) WA_MUST_CHECK;
/* list_mirrors.c: what the agent found when it last compared the mirrors; NULL: there are none. */
json_t *wa_list_mirrors(wa_context *ctx, const wa_repo *repo);
void wa_list_mirrors_print(const json_t *mirrors);

/* lineage_resolve.c: the verb "resolve NAME --keep archived|both" of lineage. */
wa_status wa_lineage_resolve(wa_context *ctx, wa_repo *repo, wa_error *err) WA_MUST_CHECK;

/* leave.c: start argv (argv[0]: the path) as a process of nobody's. Best effort. */
void wa_leave_behind(char *const *argv);

/* push_helper.c: leave one if the server that runs this has more segments ready; and its life. */
void wa_push_helper_leave(const wa_config *config, const char *path);
wa_status wa_push_helper_run(wa_context *ctx, wa_error *err) WA_MUST_CHECK;

#endif
