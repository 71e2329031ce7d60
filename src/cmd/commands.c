/*
 * commands.c - the commands, in the order of the help.
 */
#include "commands_internal.h"

const wa_command *const wa_commands[] = {
    &wa_command_init,        &wa_command_run,    &wa_command_archive_push,
    &wa_command_archive_get, &wa_command_backup, &wa_command_list,
    &wa_command_restore,     &wa_command_log,    &wa_command_verify,
    &wa_command_check,       &wa_command_status, &wa_command_lineage,
    &wa_command_mirror,      &wa_command_config, NULL,
};
