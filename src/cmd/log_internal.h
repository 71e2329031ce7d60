/*
 * log_internal.h - the parts of the command log.
 */
#ifndef WALAGENT_CMD_LOG_INTERNAL_H
#define WALAGENT_CMD_LOG_INTERNAL_H

#include "cmd_internal.h"

#include "walagent/audit/log.h"

const char *wa_log_time_text(wa_time t, char out[static WA_TIME_TEXT]);
void wa_log_set_time(json_t *obj, const char *key, wa_time t);
void wa_log_set_lsn(json_t *obj, const char *key, wa_lsn lsn);

/* log_list.c */
wa_status wa_log_command_around(wa_context *ctx, const wa_log_options *options, const char *time,
                                wa_error *err) WA_MUST_CHECK;
wa_status wa_log_command_drops(wa_context *ctx, wa_log_options *options,
                               wa_error *err) WA_MUST_CHECK;

#endif
