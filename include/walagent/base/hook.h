/*
 * walagent/base/hook.h - what the hooks' front (libc only) and the full program must agree on.
 *
 * Modes of archive-get: the base name of the target RECOVERYXLOG or RECOVERYHISTORY is server
 * recovery (standby.signal in the data directory: STANDBY; else RECOVERY); anything else is RAW
 * (pg_rewind, a person). Exit codes: INTERFACE.md. In server recovery an exit code from 1 to 125
 * means "not there" to PostgreSQL, which in point-in-time recovery ends recovery and opens the
 * server read-write: so there every failure but a positive "not in the archive" is 254. A standby
 * gets 4 and asks again.
 */
#ifndef WALAGENT_BASE_HOOK_H
#define WALAGENT_BASE_HOOK_H

#include "walagent/base/config.h"
#include "walagent/base/error.h"

typedef enum wa_get_mode { WA_GET_RAW, WA_GET_STANDBY, WA_GET_RECOVERY } wa_get_mode;
#define WA_EXIT_RECOVERY_FAILED 254

wa_get_mode wa_get_mode_of(const char *data_dir, const char *target);
const char *wa_get_mode_name(wa_get_mode mode); /* "raw", "standby", "recovery" */
/* Of archive-get. OK 0, NOT_FOUND 1; else RECOVERY 254, STANDBY 4 (INVALID too: the server goes on
 * asking), RAW as wa_exit_code. */
int wa_get_exit_code(wa_get_mode mode, wa_status status);
/* Of every other command: OK 0, INVALID and UNSUPPORTED 2, UNREACHABLE and CORRUPT 3, UNAVAILABLE
 * 4, CONFLICT 5, else 1. */
int wa_exit_code(wa_status status);
/* [agent] socket, or /run/walagent/<name>.sock. A new string. */
char *wa_hook_socket_path(const wa_config *config);

#endif
